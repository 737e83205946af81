"""The streams of a gateway: how one begins, what each message does, how all of them are drained.

::

    first message ──registration──▶ open session ──▶ ack ──▶ messages … ──▶ closed: the lease runs on
         │
         └──heartbeat or result of a worker in the registry──▶ open session, no ack of its own
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from dispatchd.application.announcer import Announcer
from dispatchd.application.gateway.admission import Admission
from dispatchd.application.gateway.claimer import Claimer
from dispatchd.application.gateway.messages import (
    Ack,
    Heartbeat,
    Inbound,
    LogChunk,
    Reports,
    Started,
)
from dispatchd.application.gateway.reports import ReportCollector
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.ports import (
    DatabaseUnavailable,
    DecideOmitted,
    Decision,
    LockedExecution,
    NewSession,
    NotPermitted,
    OpenedSession,
    SessionStore,
    TransientConflict,
)
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.domain import access
from dispatchd.domain.access import Identity
from dispatchd.domain.errors import (
    DispatchdError,
    InvalidRequest,
    Overloaded,
    RegionReadOnly,
    RegisterFirst,
    Superseded,
    Unavailable,
)
from dispatchd.domain.ids import ExecutionId, IdGenerator, SessionId, format_job_id, parse_execution_id
from dispatchd.domain.settlement import LeaseLost, Returned
from dispatchd.domain.worker import Registration, check_registration, check_worker_id
from dispatchd.telemetry import metrics

_TRIES = 5
_REST_LOOK_S = 0.05
_TURN_S = 2.0
_CLOSING_S = 1.0
_MOST_CLOSING = 1_000
_UNCLEAR_S = 3.0
"""Longer than the database works on a statement: what was unclear is settled by then."""

_STOPPING = "this worker-gateway is stopping"
_log = logging.getLogger(__name__)
_worker_log = logging.getLogger("dispatchd.worker_log")


class WorkerStreams:
    """Knows every open session of this gateway."""

    def __init__(
        self,
        store: SessionStore,
        reports: ReportCollector,
        settler: Settler,
        announcer: Announcer,
        region: RegionWatch,
        ids: IdGenerator,
        *,
        gateway: str,
        lease: timedelta,
        most_sessions: int,
        database_turns: int,
        admission: Admission,
        worker_certificates: bool = False,
    ) -> None:
        self._store = store
        self._reports = reports
        self._settler = settler
        self._announcer = announcer
        self._region = region
        self._ids = ids
        self._gateway = gateway
        self._lease = lease
        self._most_sessions = most_sessions
        self._worker_certificates = worker_certificates
        self._admission = admission
        self._sessions: dict[SessionId, WorkerSession] = {}
        self._capabilities: Counter[str] = Counter()
        self._turns = asyncio.Semaphore(database_turns)
        self._closing: set[asyncio.Task[None]] = set()
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
        if len(self._sessions) >= self._most_sessions:
            raise Overloaded(f"this worker-gateway has {self._most_sessions} streams already")
        self._admission.enter(identity)
        try:
            session = await self._admitted(first, identity, peer)
        except BaseException:
            self._admission.closed(identity.subject)
            raise
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

    async def _admitted(self, first: Inbound, identity: Identity, peer: str) -> WorkerSession:
        registration = first if isinstance(first, Registration) else await self._registration_of(first)
        check_registration(registration)
        access.check_worker_id(identity, registration.worker_id, by_certificate=self._worker_certificates)
        return await self._open(registration, identity.subject, peer)

    async def _registration_of(self, first: Inbound) -> Registration:
        """What the registry says of a worker that goes on without a registration."""
        match first:
            case Heartbeat(worker_id=worker_id):
                if not worker_id:
                    raise RegisterFirst("the first heartbeat of a stream must name its worker_id")
                check_worker_id(worker_id)
            case Reports(reports=reports):
                execution_id = reports[0].execution_id if reports else None
                found = None
                if execution_id is not None:
                    async with self._turn():
                        found = await self._store.worker_of(execution_id)
                if found is None:
                    raise RegisterFirst("the execution is unknown")
                worker_id = found
            case _:
                raise RegisterFirst("a stream begins with a registration, a heartbeat or a result")
        async with self._turn():
            row = await self._store.registry_row(worker_id)
        if row is None:
            raise RegisterFirst(f"worker {worker_id!r} is not in the registry")
        return Registration(row.worker_id, row.capabilities, row.slots, row.labels)

    async def _open(self, registration: Registration, principal: str, peer: str) -> WorkerSession:
        session = WorkerSession(self._ids.session_id(), registration, principal, peer, self._lease)
        new = NewSession(session.session_id, registration, principal, self._gateway, peer, self._lease)
        decisions: list[Decision] = []

        def decide_omitted(omitted: Sequence[LockedExecution], is_same_process: bool) -> Sequence[Decision]:
            ending = (
                Returned(was_sent=True, error_message="the worker came back without it")
                if is_same_process
                else LeaseLost(f"worker {registration.worker_id} came back as another process")
            )
            decisions[:] = [self._settler.decision(execution, ending) for execution in omitted]
            return decisions

        try:
            sent_at, opened = await self._open_in_store(new, decide_omitted)
        except (asyncio.CancelledError, DatabaseUnavailable):
            # The row may stand all the same, now or in a moment; without a stream it must not look like an open one.
            if len(self._closing) < _MOST_CLOSING:
                self._later(self._note_closed_surely(session))
            raise
        session.opened(sent_at, opened.resumed, opened.earlier)
        self._settler.announce(decisions, opened.followed)
        self._displace(session, opened)
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
                "worker_id": registration.worker_id,
                "peer": peer,
                "capabilities": list(registration.capabilities),
                "slots": registration.slots,
                "resumed": len(opened.resumed),
                "lost": len(registration.held) - len(opened.resumed),
            },
        )
        return session

    async def _open_in_store(self, new: NewSession, decide_omitted: DecideOmitted) -> tuple[float, OpenedSession]:
        """When the registration was sent that was committed (`time.monotonic()`), and what it brought about."""
        async with self._turn():
            for attempt in range(_TRIES):
                sent_at = time.monotonic()
                try:
                    return sent_at, await self._store.open(new, decide_omitted, self._region.fence)
                except NotPermitted as exc:
                    raise await self._region.explain(exc) from exc
                except TransientConflict:
                    if attempt == _TRIES - 1:
                        raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Few workers at a time register or leave in the database: renewals, claims and results need it too."""
        try:
            async with asyncio.timeout(_TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("too many workers come and go at once: connect again") from None
        try:
            yield
        finally:
            self._turns.release()

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
        await asyncio.wait({self._later(self._note_closed(session))}, timeout=_CLOSING_S)

    def move_on(self, session: WorkerSession) -> None:
        """Tells a worker that can resume to open its next stream, on whichever gateway it finds; others stay."""
        if session.registration.resumes and session.is_open:
            self._give_back(session, session.drain("this connection is old: connect again"))

    async def all_told(self, longest: timedelta) -> None:
        """Waits until the database knows of every stream that is gone and has back what was not sent, but no longer
        than this."""
        if self.claimer is not None:
            self._later(self.claimer.at_rest())
        if self._closing:
            await asyncio.wait(self._closing, timeout=longest.total_seconds())
        for task in self._closing:
            task.cancel()

    def _later(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name="closing")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _note_closed_surely(self, session: WorkerSession) -> None:
        await self._note_closed(session)
        await asyncio.sleep(_UNCLEAR_S)
        await self._note_closed(session)

    async def _note_closed(self, session: WorkerSession) -> None:
        try:
            async with self._turn():
                await self._store.close([session.session_id], self._region.fence)
        except DispatchdError as exc:
            _log.info("a closed stream could not be noted: %s", exc, extra={"worker_id": session.worker_id})

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
        async with self._turn():
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
