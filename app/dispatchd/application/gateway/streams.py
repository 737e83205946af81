"""The streams of a gateway: their beginning and end, what each message does, how all of them are drained.

::

    first message ──registration──▶ open session ──▶ ack ──▶ messages … ──▶ closed: the lease runs on
         │
         └──heartbeat or result of a worker in the registry──▶ open session, no ack of its own
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from dispatchd.application.announcer import Announcer
from dispatchd.application.gateway.admission import Admission
from dispatchd.application.gateway.claimer import Claimer
from dispatchd.application.gateway.closing import StreamCloser
from dispatchd.application.gateway.messages import (
    Ack,
    Heartbeat,
    Inbound,
    LogChunk,
    Reports,
    Started,
)
from dispatchd.application.gateway.opening import SessionOpener
from dispatchd.application.gateway.reports import ReportCollector
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.gateway.turns import DatabaseTurns
from dispatchd.application.ports import OpenedSession, SessionStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.access import Identity
from dispatchd.domain.errors import InvalidRequest, RegionReadOnly, Superseded, Unavailable
from dispatchd.domain.ids import ExecutionId, SessionId, format_job_id, parse_execution_id
from dispatchd.domain.worker import Registration, check_registration
from dispatchd.telemetry import metrics

_REST_LOOK_S = 0.05
_CLOSING_S = 1.0
_STOPPING = "this worker-gateway is stopping"
_log = logging.getLogger(__name__)
_worker_log = logging.getLogger("dispatchd.worker_log")


class WorkerStreams:
    """Knows every open session of this gateway."""

    def __init__(
        self,
        admission: Admission,
        opener: SessionOpener,
        closer: StreamCloser,
        turns: DatabaseTurns,
        store: SessionStore,
        reports: ReportCollector,
        announcer: Announcer,
        region: RegionWatch,
    ) -> None:
        self._admission = admission
        self._opener = opener
        self._closer = closer
        self._turns = turns
        self._store = store
        self._reports = reports
        self._announcer = announcer
        self._region = region
        self._sessions: dict[SessionId, WorkerSession] = {}
        self._capabilities: Counter[str] = Counter()
        self._is_draining = False
        self.claimer: Claimer | None = None
        """Set once by the role: claimer and streams know each other."""

    def sessions(self) -> Iterable[WorkerSession]:
        """The open sessions."""
        return list(self._sessions.values())

    # --- beginning and end of a stream ----------------------------------------------------------------------------

    async def open(self, first: Inbound, identity: Identity, peer: str) -> WorkerSession:
        """Opens a session for a stream's first message, and handles that message.

        Raises RegionReadOnly, InvalidRequest, PermissionDenied, RegisterFirst, Overloaded, Unavailable.
        """
        await self._region.check_may_change()
        if self._is_draining:
            raise Unavailable(f"{_STOPPING}: connect again")
        self._admission.enter(identity)
        try:
            session, opened = await self._opener.open(first, identity, peer)
        except BaseException:
            self._admission.closed(identity.subject)
            raise
        self._displace(session, opened)
        self._begin(session, len(opened.resumed))
        try:
            if isinstance(first, Registration):
                session.outbox.send(session.lease_ack("registered"))
            else:
                await self.handle(session, first)
        except BaseException:
            await self.close(session)
            raise
        self._wake()
        return session

    def _begin(self, session: WorkerSession, resumed: int) -> None:
        registration = session.registration
        self._sessions[session.session_id] = session
        self._capabilities.update(registration.capabilities)
        metrics.STREAMS_OPEN.set(len(self._sessions))
        if self._is_draining:
            # The drain began while the registration was under way.
            session.drain(_STOPPING)
        if not self._region.may_change:
            self.region_changed()
        _log.info(
            "worker registered",
            extra={
                "worker_id": session.worker_id,
                "peer": session.peer,
                "capabilities": list(registration.capabilities),
                "slots": registration.slots,
                "resumed": resumed,
                "lost": len(registration.held) - resumed,
            },
        )

    def _displace(self, session: WorkerSession, opened: OpenedSession) -> None:
        displaced = [earlier.session_id for earlier in opened.displaced]
        for session_id in displaced:
            self.superseded(session_id)
        self._announcer.displaced(displaced)
        if opened.took_over_from is not None:
            metrics.TAKEOVERS.inc()
            _log.warning(
                "a worker id was taken over by another process",
                extra={
                    "worker_id": session.worker_id,
                    "peer": session.peer,
                    "displaced_peer": opened.took_over_from.peer,
                    "displaced_gateway": opened.took_over_from.gateway,
                },
            )

    async def close(self, session: WorkerSession) -> None:
        """The stream is gone. The lease runs on; what was claimed but not written is given back, and the database told:
        within a second as a rule, and later while the database is slow."""
        session.end(Unavailable("the stream is closed"))
        if self._sessions.pop(session.session_id, None) is None:
            return
        self._admission.closed(session.principal)
        self._capabilities.subtract(session.registration.capabilities)
        self._capabilities = +self._capabilities
        metrics.STREAMS_OPEN.set(len(self._sessions))
        self._give_back(session, [execution_id for execution_id, held in session.held.items() if not held.was_sent])
        await asyncio.wait({self._closer.closed(session)}, timeout=_CLOSING_S)

    def move_on(self, session: WorkerSession) -> None:
        """Tells a worker that can resume to open its next stream, on whichever gateway it finds; others stay."""
        if session.registration.resumes and session.is_open:
            self._give_back(session, session.drain("this connection is old: connect again"))

    async def all_told(self, longest: timedelta) -> None:
        """Waits until the database knows of every stream that is gone and has back what was not sent, but no longer
        than this."""
        if self.claimer is not None:
            self._closer.later(self.claimer.at_rest())
        await self._closer.all_done(longest)

    # --- messages -------------------------------------------------------------------------------------------------

    async def handle(self, session: WorkerSession, message: Inbound) -> None:
        """Does what a message says; waits only where a bound is reached. Raises InvalidRequest to end the stream."""
        had_slots = session.free_slots > 0
        session.heard()
        match message:
            case Heartbeat():
                self._heartbeat(session, message)
            case Reports(reports=reports):
                for report in reports:
                    await self._reports.report(session, report)
            case Started(execution_ids=execution_ids):
                for execution_id in execution_ids:
                    session.started(execution_id)
            case LogChunk():
                _write_log(session, message)
            case Registration():
                await self._register_again(session, message)
        if not had_slots and session.free_slots > 0:
            self._wake()

    def _heartbeat(self, session: WorkerSession, heartbeat: Heartbeat) -> None:
        _check_same_worker(session, heartbeat.worker_id or session.worker_id)
        session.heard(heartbeat.status)
        metrics.HEARTBEATS.inc()
        session.outbox.answer(session.outbox.expect_ack(), session.lease_ack())

    async def _register_again(self, session: WorkerSession, registration: Registration) -> None:
        _check_same_worker(session, registration.worker_id)
        check_registration(registration)
        async with self._turns.turn():
            await self._store.update_registration(session.session_id, registration, self._region.fence)
        self._capabilities.subtract(session.registration.capabilities)
        session.update(registration)
        self._capabilities.update(registration.capabilities)
        self._capabilities = +self._capabilities
        session.outbox.answer(session.outbox.expect_ack(), session.lease_ack("registration updated"))
        self._wake()

    # --- signals --------------------------------------------------------------------------------------------------

    def ready(self, capabilities: Iterable[str]) -> None:
        """Something became ready for these capabilities."""
        if not self._capabilities.keys().isdisjoint(capabilities):
            self._wake()

    def superseded(self, session_id: SessionId) -> None:
        """A session was taken over by another stream of its worker id."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.end(Superseded(session.worker_id))

    def canceled(self, execution_id: ExecutionId, session_id: SessionId, reason: str) -> None:
        """An execution is no longer wanted."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.unwanted(execution_id, reason)
            self._wake()

    def region_changed(self) -> None:
        """Ends every stream when this region may change nothing any more; workers resume in the primary."""
        if self._region.may_change:
            self._wake()
            return
        try:
            self._region.fence.check_may_change(self._region.row)
        except RegionReadOnly as exc:
            for session in self.sessions():
                session.drain(str(exc))
                session.end(exc)

    # --- drain ----------------------------------------------------------------------------------------------------

    async def drain(self, longest: timedelta) -> None:
        """Workers that can resume are told to reconnect, the others finish what they hold; then all streams end."""
        self._is_draining = True
        if self.claimer is not None:
            self.claimer.stop()
        for session in self.sessions():
            self._give_back(session, session.drain(_STOPPING))
        try:
            async with asyncio.timeout(longest.total_seconds()):
                while self._sessions:
                    self._end_those_at_rest()
                    await asyncio.sleep(_REST_LOOK_S)
        except TimeoutError:
            _log.info("streams still open at the end of the drain", extra={"streams": len(self._sessions)})
        for session in self.sessions():
            session.end(Unavailable(f"{_STOPPING}: connect again"))

    def _give_back(self, session: WorkerSession, unsent: Iterable[ExecutionId]) -> None:
        if self.claimer is not None:
            self.claimer.give_back(dict.fromkeys(unsent, session.session_id))

    def _end_those_at_rest(self) -> None:
        for session in self.sessions():
            if not session.registration.resumes and session.is_at_rest:
                session.end(Unavailable(f"{_STOPPING}: connect again"))

    def _wake(self) -> None:
        if self.claimer is not None:
            self.claimer.wake()


def _check_same_worker(session: WorkerSession, worker_id: str) -> None:
    if worker_id != session.worker_id:
        raise InvalidRequest(
            "worker_id", f"this stream belongs to worker {session.worker_id!r}; open another stream for another worker"
        )


def _write_log(session: WorkerSession, chunk: LogChunk) -> None:
    job_id = session.job_of(parse_execution_id(chunk.execution_text))
    _worker_log.info(
        "%s",
        chunk.message,
        extra={
            "execution_id": chunk.execution_text,
            "job_id": None if job_id is None else format_job_id(job_id),
            "worker_id": session.worker_id,
            "emitted_at": None if chunk.emitted_at is None else chunk.emitted_at.isoformat(),
        },
    )
    session.outbox.answer(session.outbox.expect_ack(), Ack(chunk.execution_text))
