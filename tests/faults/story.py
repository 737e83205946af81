"""Histories for the tests of the checker, told line by line. Times are in seconds, ids are any short names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.job import JobState
from dispatchd.sdk.job import JobStatus
from faults.database_facts import DatabaseFacts, ExecutionFact, JobFact
from faults.events import (
    Assigned,
    Event,
    FaultBegan,
    FaultEnded,
    FaultKind,
    GaveBack,
    HandlerBegan,
    HandlerEnd,
    HandlerEnded,
    JobSeen,
    LeaderSeen,
    LeaseAcked,
    LedgerRole,
    Opened,
    Outcome,
    RedriveAnswered,
    RedriveAsked,
    RegistrationSent,
    ResultAcked,
    ResultSent,
    SubmitAcked,
    SubmitFailed,
    Submitted,
)
from faults.ledger import Ledger
from faults.violation import ns

END_S = 1_000.0
LEASE_S = 3.0
CALL_S = 0.01
CAPABILITY = "faults"
JOB_TYPE = f"{CAPABILITY}.work"

_END_OF = {
    "succeeded": (ExecutionState.SUCCEEDED, EndReason.SUCCEEDED),
    "failed": (ExecutionState.FAILED, EndReason.FAILED),
    "dead": (ExecutionState.DEAD_LETTERED, EndReason.FAILED),
    "dead_lost": (ExecutionState.DEAD_LETTERED, EndReason.LEASE_LOST),
    "lost": (ExecutionState.FAILED, EndReason.LEASE_LOST),
    "returned": (ExecutionState.FAILED, EndReason.RETURNED),
    "canceled": (ExecutionState.FAILED, EndReason.CANCELED),
}


@dataclass(slots=True)
class _Teller:
    """One ledger under way."""

    file: str
    opened: Opened
    events: list[Event] = field(default_factory=list)

    def say(self, *events: Event) -> Self:
        self.events += events
        return self

    def ledger(self) -> Ledger:
        return Ledger(self.file, self.opened, tuple(sorted(self.events, key=lambda event: event.at_ns)))


class ClientTeller(_Teller):
    """What a client did and was told. A call takes ten milliseconds; `at` is when its answer was read."""

    def tries(self, key: str, at: float, *, priority: int = 0, max_attempts: int = 3) -> Self:
        return self.say(Submitted(ns(at), key, JOB_TYPE, priority, max_attempts))

    def acked(self, key: str, job: str, at: float) -> Self:
        return self.say(SubmitAcked(ns(at), key, job))

    def refused(self, key: str, code: str, at: float) -> Self:
        return self.say(SubmitFailed(ns(at), key, code))

    def submits(self, job: str, at: float, *, priority: int = 0, max_attempts: int = 3) -> Self:
        """A try and its ack; the key is `key of <job>`."""
        key = key_of(job)
        return self.tries(key, at - CALL_S, priority=priority, max_attempts=max_attempts).acked(key, job, at)

    def sees(self, job: str, status: JobStatus, at: float, *, asked: float | None = None, attempts: int = 1) -> Self:
        asked_ns = ns(at - CALL_S if asked is None else asked)
        return self.say(JobSeen(ns(at), asked_ns, job, status, attempts, "GetJob"))

    def redrives(self, job: str, at: float, *, code: str | None = "OK") -> Self:
        """A redrive and its answer, or none."""
        self.say(RedriveAsked(ns(at - CALL_S), job))
        if code is not None:
            self.say(RedriveAnswered(ns(at), ns(at - CALL_S), job, code))
        return self


class WorkerTeller(_Teller):
    """What a worker on the raw stream did and was told."""

    def registers(
        self, at: float, *, held: Sequence[str] = (), lost: Sequence[str] = (), lease: float = LEASE_S
    ) -> Self:
        self.say(RegistrationSent(ns(at), 1, tuple(held)))
        return self.renewed(at, lost=lost, lease=lease)

    def renewed(
        self, sent: float, *, read: float | None = None, lost: Sequence[str] = (), lease: float | None = LEASE_S
    ) -> Self:
        """The ack of what was sent at `sent`, read ten milliseconds later if not said otherwise."""
        at_ns = ns(sent + CALL_S if read is None else read)
        return self.say(LeaseAcked(at_ns, 1, ns(sent), None if lease is None else ns(lease), tuple(lost)))

    def gets(self, execution: str, job: str, at: float, *, attempt: int = 1) -> Self:
        return self.say(Assigned(ns(at), 1, execution, job, attempt, 0))

    def sends(self, execution: str, at: float, *, success: bool = True) -> Self:
        return self.say(ResultSent(ns(at), 1, execution, success))

    def told(self, execution: str, at: float, *, success: bool = True, outcome: Outcome = Outcome.ACCEPTED) -> Self:
        return self.say(ResultAcked(ns(at), 1, execution, success, outcome))

    def finishes(self, execution: str, at: float, *, success: bool = True, outcome: Outcome = Outcome.ACCEPTED) -> Self:
        """A result and its ack."""
        return self.sends(execution, at - CALL_S, success=success).told(execution, at, success=success, outcome=outcome)

    def gives_back(self, execution: str, at: float) -> Self:
        return self.say(GaveBack(ns(at), 1, execution))

    def handles(self, execution: str, job: str, at: float, until: float, *, attempt: int = 1) -> Self:
        """What a handler of the SDK's worker writes."""
        self.say(HandlerBegan(ns(at), execution, job, attempt))
        return self.say(HandlerEnded(ns(until), execution, HandlerEnd.RETURNED))


class NemesisTeller(_Teller):
    """What was broken on purpose."""

    def breaks(self, kind: FaultKind, at: float, until: float | None, *, target: str = "", fault: str = "") -> Self:
        target = target or kind.value
        self.say(FaultBegan(ns(at), kind, target, fault))
        return self if until is None else self.say(FaultEnded(ns(until), kind, target))

    def sees_leader(self, owner: str, at: float) -> Self:
        return self.say(LeaderSeen(ns(at), owner))


class Story:
    """Ledgers, and what the database says in the end."""

    def __init__(self) -> None:
        self.client = ClientTeller("client.ledger", Opened(0, LedgerRole.CLIENT, "client", "p-client"))
        self.nemesis = NemesisTeller("nemesis.ledger", Opened(0, LedgerRole.NEMESIS, "nemesis", "p-nemesis"))
        self._workers: dict[str, WorkerTeller] = {}
        self._jobs: dict[str, JobFact] = {}
        self._executions: dict[str, ExecutionFact] = {}

    def worker(self, name: str, *, process: str = "") -> WorkerTeller:
        """The ledger of a worker, or of another process of it."""
        file = f"{name}{process}.ledger"
        opened = Opened(0, LedgerRole.RAW_WORKER, name, f"p-{file}")
        return self._workers.setdefault(file, WorkerTeller(file, opened))

    def sdk_worker(self, name: str) -> WorkerTeller:
        """The ledger of a worker with the SDK."""
        file = f"{name}.ledger"
        return self._workers.setdefault(file, WorkerTeller(file, Opened(0, LedgerRole.SDK_WORKER, name, f"p-{file}")))

    def job(
        self, job: str, state: JobState = JobState.SUCCEEDED, *, key: str = "", priority: int = 0, max_attempts: int = 3
    ) -> Self:
        """A job in the database."""
        self._jobs[job] = JobFact(job, CAPABILITY, priority, state, key or key_of(job), max_attempts)
        return self

    def execution(
        self,
        execution: str,
        job: str,
        end: str = "succeeded",
        worker: str | None = "w1",
        *,
        attempt: int = 1,
        delivery: int = 1,
        claimed: float | None = None,
        finished: float = END_S,
        due: float = 0.0,
    ) -> Self:
        """An execution in the database; `end` is a key of `_END_OF`."""
        state, reason = _END_OF[end]
        self._executions[execution] = ExecutionFact(
            execution,
            job,
            attempt,
            delivery,
            state,
            reason,
            worker,
            None if claimed is None else ns(claimed),
            ns(finished),
            ns(due),
        )
        return self

    def ledgers(self) -> list[Ledger]:
        return [teller.ledger() for teller in (self.client, self.nemesis, *self._workers.values())]

    def database(self) -> DatabaseFacts:
        return DatabaseFacts(ns(END_S), self._jobs, self._executions)


def key_of(job: str) -> str:
    """The key under which a job of a story is submitted."""
    return f"key of {job}"
