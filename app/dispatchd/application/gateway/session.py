"""One worker's session as its gateway sees it: slots, what it holds, what it was told, how it ends.

::

    register ──▶ OPEN ──drain signal / stream closed / silent / superseded / lost / region──▶ ENDED
                  │
      slots = max_concurrency - held here - held by earlier sessions of this worker
      a slot is freed by the worker's answer, never by the server's opinion
"""

import asyncio
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import timedelta

from dispatchd.application.gateway.messages import Ack, Assignment, CancelSignal, Drain
from dispatchd.application.gateway.outbox import Outbox
from dispatchd.application.ports import ClaimedExecution, Renewal, Reporter
from dispatchd.domain.errors import DispatchdError
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.worker import Registration, WorkerStatus

_NEVER = 0.0


@dataclass(slots=True)
class Held:
    """An execution in a slot of the worker. `is_wanted` False: ended by the server, not yet by the worker."""

    job_id: JobId
    was_sent: bool
    is_wanted: bool = True


class WorkerSession:
    """State of one stream; changed only on the event loop, never waits."""

    def __init__(
        self, session_id: SessionId, registration: Registration, principal: str, peer: str, lease: timedelta
    ) -> None:
        self.session_id = session_id
        self.registration = registration
        self.principal = principal
        self.peer = peer
        self.status = WorkerStatus.READY
        self.outbox = Outbox(ordered=not registration.batching)
        self.ended: asyncio.Future[DispatchdError] = asyncio.get_running_loop().create_future()
        self.held: dict[ExecutionId, Held] = {}
        self.saving: set[ExecutionId] = set()
        """Reported by the worker, not yet committed."""
        self.earlier: dict[ExecutionId, JobId] = {}
        """Held by earlier sessions of this worker, and not answered by it yet."""
        self.is_draining = False
        self.is_doubtful = False
        self._lease = lease
        self._half_lease_s = lease.total_seconds() / 2
        self._lease_until = _NEVER
        self.heard_at = time.monotonic()
        self.writing_since: float | None = None
        """Since when its writer waits for the worker to read, by `time.monotonic()`."""
        self._heartbeat_at = _NEVER
        self._renewed_at = _NEVER
        self._started: dict[ExecutionId, float] = {}
        self._lost: set[ExecutionId] = set()
        self._unclear: set[ExecutionId] = set()

    @property
    def worker_id(self) -> str:
        return self.registration.worker_id

    @property
    def reporter(self) -> Reporter:
        return Reporter(self.worker_id, self.principal)

    @property
    def is_open(self) -> bool:
        return not self.ended.done()

    @property
    def free_slots(self) -> int:
        """How many assignments it may be sent now; none while it is silent for half its lease."""
        free = self.registration.slots - len(self.held) - len(self.earlier)
        if free <= 0 or self.ended.done() or self.is_draining or self.is_doubtful:
            return 0
        if not self.status.takes_work or time.monotonic() - self.heard_at > self._half_lease_s:
            return 0
        return free

    @property
    def lease_remaining(self) -> timedelta:
        """Of the lease that is committed."""
        return timedelta(seconds=max(0.0, self._lease_until - time.monotonic()))

    def job_of(self, execution_id: ExecutionId | None) -> JobId | None:
        """The job of an execution that this worker holds."""
        if execution_id is None:
            return None
        held = self.held.get(execution_id)
        return self.earlier.get(execution_id) if held is None else held.job_id

    @property
    def is_at_rest(self) -> bool:
        """Nothing is held, nothing is being saved, everything is answered."""
        return not (self.held or self.saving or self.earlier or self.outbox.has_unanswered)

    def end(self, why: DispatchdError) -> None:
        """Ends the stream with an error, once; nothing more is assigned on it."""
        if not self.ended.done():
            self.leave()
            self.ended.set_result(why)

    def distrust(self) -> None:
        """The database says that the session is over: the next renewal finds out why."""
        self.is_doubtful = True

    def leave(self) -> None:
        """Assigns nothing more. What was not written to the stream yet stays unsent, to be given back."""
        self.is_draining = True
        self.outbox.withdraw_assignments()

    # --- what the worker says -------------------------------------------------------------------------------------

    def heard(self, status: WorkerStatus | None = None) -> None:
        """Any message is a sign of life; only heartbeats renew the lease."""
        self.heard_at = time.monotonic()
        if status is not None:
            self.status = status
            self._heartbeat_at = self.heard_at

    def started(self, execution_id: ExecutionId) -> None:
        """Remembers the notice for the next renewal."""
        if execution_id in self.held:
            self._started[execution_id] = time.monotonic()

    def reported(self, execution_id: ExecutionId) -> None:
        """The worker has answered: its slot is free."""
        self._started.pop(execution_id, None)
        self._lost.discard(execution_id)
        was_held = self.held.pop(execution_id, None) or self.earlier.pop(execution_id, None)
        if was_held is not None:
            self.saving.add(execution_id)

    def saved(self, execution_id: ExecutionId) -> None:
        """The report is committed, or refused for good."""
        self.saving.discard(execution_id)

    # --- what the worker is told ----------------------------------------------------------------------------------

    def assign(self, execution: ClaimedExecution) -> None:
        """Queues an assignment; it fills a slot from here on."""
        self.held[execution.execution_id] = Held(execution.job_id, was_sent=False)
        self.outbox.send(Assignment(execution, self.lease_remaining, time.monotonic()))

    def was_sent(self, execution_id: ExecutionId) -> None:
        """The assignment was written to the stream, or this has begun: the worker may hold it."""
        held = self.held.get(execution_id)
        if held is not None:
            held.was_sent = True

    def vanished(self, execution_id: ExecutionId) -> None:
        """Its job was deleted before it was sent: there is nothing to do and nobody to tell."""
        self.outbox.withdraw(execution_id)
        self.held.pop(execution_id, None)

    def opened(
        self, sent_at: float, resumed: Mapping[ExecutionId, JobId], earlier: Mapping[ExecutionId, JobId]
    ) -> None:
        """The registration is committed: the lease counts from when the statement was sent (`time.monotonic()`)."""
        self._lease_until = sent_at + self._lease.total_seconds()
        self.earlier = dict(earlier)
        for execution_id, job_id in resumed.items():
            self.held[execution_id] = Held(job_id, was_sent=True)
        self._lost = set(self.registration.held) - resumed.keys()

    def update(self, registration: Registration) -> None:
        """A later registration on the same stream changes capabilities, labels and slots."""
        self.registration = replace(
            self.registration,
            capabilities=registration.capabilities,
            slots=registration.slots,
            labels=registration.labels,
        )

    def unwanted(self, execution_id: ExecutionId, reason: str) -> None:
        """The server ended it: the worker is told, its slot stays taken until it answers. One that the worker was
        never sent is taken back."""
        held = self.held.get(execution_id)
        if held is None or not held.is_wanted:
            return
        if self.outbox.withdraw(execution_id):
            del self.held[execution_id]
            return
        held.is_wanted = False
        self._started.pop(execution_id, None)
        self._lost.add(execution_id)
        if self.registration.resumes:
            self.outbox.send(CancelSignal((execution_id,), reason))

    def drain(self, reason: str) -> list[ExecutionId]:
        """No assignment follows; a worker that can resume is told to reconnect. Returns what was not yet sent."""
        self.is_draining = True
        withdrawn = self.outbox.withdraw_assignments()
        for execution_id in withdrawn:
            self.held.pop(execution_id, None)
        if self.registration.resumes:
            self.outbox.send(Drain(reason))
        return withdrawn

    def lease_ack(self, message: str = "") -> Ack:
        """The ack of a heartbeat or registration."""
        lost = tuple(self._lost)
        self._lost &= self.held.keys()
        return Ack(message=message, lease_remaining=self.lease_remaining, lost=lost)

    # --- renewals -------------------------------------------------------------------------------------------------

    def renewal(self) -> Renewal | None:
        """What is to be renewed since the last time; None if no heartbeat came."""
        if not self.is_open or not (self._heartbeat_at > self._renewed_at or self._started or self.is_doubtful):
            return None
        now = time.monotonic()
        return Renewal(
            self.session_id,
            self.worker_id,
            self.status,
            {execution_id: timedelta(seconds=now - at) for execution_id, at in self._started.items()},
        )

    def renewed(self, sent_at: float, noticed: frozenset[ExecutionId]) -> None:
        """The lease is committed, counted from when the statement was sent; these started notices are done with."""
        self._lease_until = sent_at + self._lease.total_seconds()
        self._renewed_at = sent_at
        for execution_id in self._started.keys() & noticed:
            del self._started[execution_id]

    def compare_earlier(self, still_held: frozenset[ExecutionId]) -> bool:
        """What earlier sessions hold can only become less; whether it did."""
        gone = self.earlier.keys() - still_held
        for execution_id in gone:
            del self.earlier[execution_id]
        return bool(gone)

    def compare(
        self,
        known_before: frozenset[ExecutionId],
        held_in_database: frozenset[ExecutionId],
        claiming: Set[ExecutionId],
    ) -> set[ExecutionId]:
        """Compares with what the database says. What ended there is no longer wanted here; what is unknown here at
        two renewals in a row (a claim whose commit was unclear) is returned to the caller, to be given back. A claim
        that is still under way is not unclear yet."""
        for execution_id in known_before - held_in_database:
            self.unwanted(execution_id, "the execution has ended")
        unknown = set(held_in_database) - self.held.keys() - self.saving - known_before - claiming
        unclear = unknown & self._unclear
        self._unclear = unknown - unclear
        return unclear

    @property
    def known(self) -> frozenset[ExecutionId]:
        """Held and wanted: what the database should say too."""
        return frozenset(execution_id for execution_id, held in self.held.items() if held.is_wanted)
