"""What the use cases need from the outside: stores in Postgres, hints in Redis. Adapters fulfil these protocols.

Every method of a store may raise DatabaseUnavailable, TransientConflict or BatchRejected; every method of the
hints may raise HintsUnavailable, and then everything goes on without hints, only later.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from dispatchd.domain.errors import Unavailable
from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.job import JobState
from dispatchd.domain.region import RegionFence, RegionRow
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import DeliveryCount, Ending, Settlement, Succeeded
from dispatchd.domain.submission import NewJob, TraceContext
from dispatchd.domain.views import ExecutionView, JobView, QueueView, WorkerView
from dispatchd.domain.worker import Registration, WorkerStatus


class DatabaseUnavailable(Unavailable):
    """Postgres can't be reached, or not in time. Whether the last transaction was committed is unclear."""


class DatabaseMisconfigured(DatabaseUnavailable):
    """What this process was told about Postgres can't be right: to wait does not help."""


class TransientConflict(Unavailable):
    """A dead-lock, serialisation failure or lock timeout: nothing was written, the same may be tried again whole."""


class BatchRejected(Exception):
    """The database refused something in a batch: nothing was written; split the batch to find out what."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def is_fault_of_the_item(self) -> bool:
        """Whether the item's own content is refused (data, constraint, size, raised by a rule)."""
        return self.sqlstate[:2] in ("22", "23", "54", "P0")


class NotPermitted(Exception):
    """The region row forbids this write; nothing was written."""


class HintsUnavailable(Exception):
    """Redis can't be reached, or its ready queues are not complete."""


# --- jobs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadyEntry:
    """A ready execution as the queues hold it: higher priority first, then the earlier due time, then the id."""

    execution_id: ExecutionId
    capability: str
    priority: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as a submit found it: new, or the first with its key. `ready` is its execution if that can start now."""

    view: JobView
    request_digest: bytes
    ready: ReadyEntry | None


@dataclass(frozen=True, slots=True)
class CanceledExecution:
    """The execution a cancel ended."""

    execution_id: ExecutionId
    session_id: SessionId | None
    entry: ReadyEntry
    was_ready: bool


@dataclass(frozen=True, slots=True)
class RedriveOutcome:
    """`entry` is None if the job was no dead letter; `state` None if there is no such job."""

    entry: ReadyEntry | None
    state: JobState | None


class JobStore(Protocol):
    """Jobs: written by submit, cancel and redrive, and read."""

    async def insert(self, jobs: Sequence[NewJob], fence: RegionFence) -> list[StoredJob | None]:
        """Stores jobs in one transaction, each with its first execution. A job whose key exists comes back as the
        first one; None if that one vanished in between. Raises NotPermitted."""

    async def cancel(self, job_id: JobId, fence: RegionFence) -> CanceledExecution | None:
        """Ends an active job; None if it has ended already. Raises JobNotFound, NotPermitted."""

    async def redrive(
        self, jobs: Sequence[tuple[JobId, ExecutionId]], fence: RegionFence
    ) -> dict[JobId, RedriveOutcome]:
        """Reopens failed jobs with a new budget, each under the given execution id. Raises NotPermitted."""

    async def get(self, job_id: JobId) -> JobView:
        """One whole job. Raises JobNotFound."""

    async def summaries(self, job_ids: Sequence[JobId]) -> dict[JobId, JobView]:
        """Jobs without payload, metadata and result; absent ones are left out."""

    async def finished_among(self, job_ids: Sequence[JobId]) -> set[JobId]:
        """Which of these have ended or are not there."""

    async def executions(self, job_id: JobId, after_delivery: int, most: int) -> list[ExecutionView]:
        """Executions by delivery number. Raises JobNotFound."""

    async def dead_letters(
        self, before: tuple[datetime, JobId] | None, job_type: str | None, most: int
    ) -> list[tuple[datetime, JobView]]:
        """Failed jobs with the time of failure, the last first."""

    async def workers(self, after: str, most: int) -> list[WorkerView]:
        """The registry by worker id."""

    async def queues(self, most: int) -> list[QueueView]:
        """What waits, by capability."""


# --- executions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """A ready execution meant for a session's free slot."""

    entry: ReadyEntry
    session_id: SessionId


@dataclass(frozen=True, slots=True)
class ClaimedExecution:
    """An execution that a session now holds. `payload` None: too large to carry along, read it when it is sent."""

    execution_id: ExecutionId
    job_id: JobId
    session_id: SessionId
    attempt: int
    job_type: str
    payload: bytes | None
    metadata: Mapping[str, str]
    trace: TraceContext
    due_at: datetime
    claimed_at: datetime
    deadline_at: datetime


class ClaimStore(Protocol):
    """Assigns ready executions to sessions."""

    async def claim(
        self, offers: Sequence[Offer], longest: timedelta, inline_bytes: int, fence: RegionFence
    ) -> list[ClaimedExecution]:
        """Claims what is still queued for sessions that still live, in the order of the offers."""

    async def claim_best(
        self,
        capabilities: Sequence[str],
        most: int,
        choose: Callable[[Sequence[ReadyEntry]], Sequence[Offer]],
        longest: timedelta,
        inline_bytes: int,
        fence: RegionFence,
    ) -> list[ClaimedExecution]:
        """The way without Redis: finds the best `most` of each capability, skipping what others have locked, lets
        `choose` place them, and claims those."""

    async def sessions_over(self, session_ids: Sequence[SessionId]) -> set[SessionId]:
        """Those of the sessions that are ended, superseded or missing: they take nothing any more."""

    async def payload(self, job_id: JobId) -> bytes | None:
        """One job's payload; None if the job is gone."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports on executions: a worker id under a principal."""

    worker_id: str
    principal: str


@dataclass(frozen=True, slots=True)
class LockedExecution:
    """An execution under lock, with what a decision about its end needs."""

    execution_id: ExecutionId
    job_id: JobId
    state: ExecutionState
    end_reason: EndReason | None
    count: DeliveryCount
    policy: RetryPolicy
    session_id: SessionId | None
    worker_id: str | None
    holder: Reporter | None
    session_over: bool
    is_overdue: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """An execution under lock, how it ends, and the id of what follows it."""

    execution: LockedExecution
    settlement: Settlement
    next_id: ExecutionId | None


@dataclass(frozen=True, slots=True)
class Followed:
    """An execution that was inserted after another one."""

    entry: ReadyEntry
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Completion:
    """Success of an execution, reported by the session that it was assigned to."""

    execution_id: ExecutionId
    session_id: SessionId
    ending: Succeeded


Decide = Callable[[Sequence[LockedExecution]], Sequence[Decision]]


class SettlementStore(Protocol):
    """Ends executions."""

    async def complete(self, completions: Sequence[Completion], fence: RegionFence) -> dict[ExecutionId, JobId]:
        """The short way for what nearly always happens, in one statement: ends those executions that are live in the
        session named, with their jobs, and returns them. About the others `settle` decides."""

    async def settle(self, execution_ids: Sequence[ExecutionId], decide: Decide, fence: RegionFence) -> list[Followed]:
        """In one transaction: locks the executions and their jobs, asks `decide` about those that exist, and writes
        its decisions. Returns what follows. Raises NotPermitted."""


# --- sessions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session about to be opened."""

    session_id: SessionId
    registration: Registration
    principal: str
    gateway: str
    peer: str
    lease: timedelta


@dataclass(frozen=True, slots=True)
class EarlierSession:
    """A session of the same worker id that has not ended."""

    session_id: SessionId
    process_id: str
    principal: str
    gateway: str
    peer: str
    is_superseded: bool
    is_closed: bool


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a registration brought about."""

    resumed: Mapping[ExecutionId, JobId]
    earlier: Mapping[ExecutionId, JobId]
    """Executions that stay with earlier sessions of this worker and fill its slots."""
    displaced: tuple[EarlierSession, ...]
    took_over_from: EarlierSession | None
    """A stream of another process, open as far as is known."""
    followed: tuple[Followed, ...]


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """The registry's words about a worker."""

    worker_id: str
    capabilities: tuple[str, ...]
    slots: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Renewal:
    """A session that was heard. `started`: age of each started notice."""

    session_id: SessionId
    worker_id: str
    status: WorkerStatus
    started: Mapping[ExecutionId, timedelta] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenewalOutcome:
    """What the database says about the sessions of a renewal."""

    renewed: frozenset[SessionId]
    superseded: frozenset[SessionId]
    locked: frozenset[SessionId]
    """Somebody else is at work on them: neither renewed nor lost, to be tried again."""
    held: Mapping[SessionId, frozenset[ExecutionId]]
    earlier: Mapping[str, frozenset[ExecutionId]]
    """By worker id: executions still on earlier sessions."""
    noticed: frozenset[ExecutionId]
    """Executions whose started notices are done with: written, or too late."""


class SessionStore(Protocol):
    """Worker sessions and the registry."""

    async def open(self, session: NewSession, decide_omitted: "DecideOmitted", fence: RegionFence) -> OpenedSession:
        """Registers, displaces earlier sessions, resumes what is held, ends what is omitted: one transaction.

        Raises Overloaded when the id is taken over too often, NotPermitted."""

    async def update_registration(self, session_id: SessionId, registration: Registration, fence: RegionFence) -> None:
        """A later registration on the same stream."""

    async def registry_row(self, worker_id: str) -> RegistryRow | None:
        """A worker's row."""

    async def worker_of(self, execution_id: ExecutionId) -> str | None:
        """The worker an execution was assigned to."""

    async def renew(self, renewals: Sequence[Renewal], lease: timedelta, fence: RegionFence) -> RenewalOutcome:
        """Renews leases, marks what has started, and reads what the sessions hold. Raises NotPermitted."""

    async def close(self, session_ids: Sequence[SessionId], fence: RegionFence) -> None:
        """Their streams are gone."""


DecideOmitted = Callable[[Sequence[LockedExecution], bool], Sequence[Decision]]
"""Executions that a resuming worker does not hold, and whether it is the same process as before."""


# --- recovery -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatabaseClock:
    """Ages by the database's clock."""

    since_start: timedelta
    since_region_change: timedelta


@dataclass(frozen=True, slots=True)
class QueueAge:
    """How long the oldest ready execution of one capability and priority has been due."""

    capability: str
    priority: int
    age: timedelta


class RecoveryStore(Protocol):
    """What the scheduler looks for; every batch is bounded."""

    async def queue_due(self, most: int, fence: RegionFence) -> list[ReadyEntry]:
        """Waiting executions that are due become ready."""

    async def next_due(self) -> timedelta | None:
        """Until the next one is due; negative if it is."""

    async def end_expired_sessions(self, most: int, fence: RegionFence) -> list[tuple[SessionId, str]]:
        """Ends sessions whose lease is over."""

    async def executions_to_recover(self, most: int) -> list[ExecutionId]:
        """Those whose session has ended or is missing, and those past their deadline."""

    async def next_lease_or_deadline(self) -> timedelta | None:
        """Until the next lease or running attempt is over."""

    async def clock(self) -> DatabaseClock:
        """How long the database and the region row have stood."""

    async def ready_capabilities(self, most: int) -> list[str]:
        """Capabilities with ready executions."""

    async def ready_page(self, capability: str, after: ReadyEntry | None, most: int) -> list[ReadyEntry]:
        """A page of a capability's ready executions in queue order."""

    async def oldest_of_each_queue(self, after: tuple[str, int], most: int) -> list[QueueAge]:
        """A page of the pairs of capability and priority that have ready executions: by capability, each from its
        highest priority down."""

    async def delete_finished(self, states: Sequence[JobState], keep: timedelta, most: int, fence: RegionFence) -> int:
        """Deletes a batch of ended jobs, bounded in bytes too; returns how many, 0 when there are none."""

    async def delete_sessions_and_workers(self, keep: timedelta, most: int, fence: RegionFence) -> int:
        """Deletes a batch of ended sessions and of workers unseen for so long; returns how many."""


class RegionStore(Protocol):
    """The region row."""

    async def read(self) -> RegionRow:
        """The row."""


# --- hints --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Demand:
    """Sessions with the same capabilities, together: how many free slots they have."""

    capabilities: tuple[str, ...]
    slots: int


class ReadyQueue(Protocol):
    """Ready executions per capability in Redis: hints that can be lost or stale, never wrong in what they allow."""

    async def offer(self, entries: Sequence[ReadyEntry]) -> None:
        """Adds entries and wakes the gateways."""

    async def pop(self, demands: Sequence[Demand], epoch: int) -> list[list[ReadyEntry]]:
        """Takes the best entries for each demand, in their order, and at most one batch in all.

        Raises HintsUnavailable unless the queues are complete."""

    async def put_back(self, entries: Sequence[ReadyEntry]) -> None:
        """Adds popped entries again without waking anybody."""

    async def remove(self, entries: Sequence[ReadyEntry]) -> None:
        """Takes out entries whose execution has ended."""

    async def absent(self, entries: Sequence[ReadyEntry]) -> list[ReadyEntry]:
        """Those of the entries that are not in the queues."""

    async def is_complete(self, epoch: int) -> bool:
        """Whether the marker of this epoch stands."""

    async def mark_complete(self, epoch: int) -> None:
        """Sets the marker: everything ready in Postgres has been added."""


class Signals(Protocol):
    """Wake-ups between processes. Each can be lost; everybody also looks by himself."""

    async def job_finished(self, job_ids: Sequence[JobId]) -> None:
        """Wakes who waits for these jobs."""

    async def somebody_waits(self) -> None:
        """Tells gateways that ends of jobs are waited for."""

    async def due_earlier(self, delay: timedelta) -> None:
        """Wakes the scheduler: something becomes due in `delay`."""

    async def canceled(self, execution_id: ExecutionId, session_id: SessionId, reason: str) -> None:
        """Tells the session's gateway that the execution is no longer wanted."""

    async def superseded(self, session_ids: Sequence[SessionId]) -> None:
        """Tells gateways that these sessions were displaced."""


class LeaderLock(Protocol):
    """The scheduler's leadership: an optimisation, correctness is in guarded SQL."""

    async def acquire_or_renew(self) -> bool:
        """Whether this process leads now. Raises HintsUnavailable."""

    async def release(self) -> None:
        """Gives leadership up, if it is ours."""


SettleEndings = Callable[[Mapping[ExecutionId, Ending]], Awaitable[None]]
