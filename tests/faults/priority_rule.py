"""The rule about priority: strict, but only where the clocks and the machine leave no doubt.

A job waits for its first claim from its ack on. If one of lower priority and the same capability is claimed meanwhile,
the order was broken:

    ack ──── 1 s ────┬──────── nothing lower may be claimed in here ────────┬── 1 s ── first claim, or its end
                     └─ no fault of Redis, gateway or control-plane, nor one that ended less than 5 s ago

The second before the claim: who takes an entry from the queue first may commit its claim last. The five seconds: what a
fault has lost is put back by the repairer, which looks every two seconds and wants to miss an entry twice. It is part
of the scheduler and looks into Postgres: a fault of these within the five seconds makes them begin again at its end.
Later attempts are not asked about, because the ledgers don't say when a backoff is over.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faults.database_facts import DatabaseFacts, JobFact
from faults.events import Assigned, FaultKind, HandlerBegan, SubmitAcked
from faults.history import History, Told
from faults.violation import Violation, at, ns

HEAD_START_S = 1.0
CLAIM_SPREAD_S = 1.0
SETTLING_S = 5.0
DISTURBING = frozenset({FaultKind.REDIS, FaultKind.GATEWAY, FaultKind.CONTROL_PLANE})
DELAYING = frozenset({FaultKind.SCHEDULER, FaultKind.POSTGRES})
"""What the repairer can't work without."""


class _Claims:
    """The claims of one capability and priority, by time."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Told[Assigned] | Told[HandlerBegan]]] = []

    def between(self, from_ns: int, until_ns: int) -> Iterator[tuple[int, Told[Assigned] | Told[HandlerBegan]]]:
        start = bisect_right(self.found, from_ns, key=lambda claim: claim[0])
        for claim in self.found[start:]:
            if claim[0] >= until_ns:
                return
            yield claim


@dataclass(frozen=True, slots=True)
class _Wait:
    """Nothing of lower priority may be claimed between these times."""

    job: JobFact
    ack: Told[SubmitAcked]
    from_ns: int
    until_ns: int


def priority_is_kept(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """While an acked job waits for its first claim, nothing of lower priority and the same capability is claimed."""
    lanes = _lanes(history, database)
    disturbed = _disturbed(history)
    for wait in _waits(history, database):
        job, ack = wait.job, wait.ack
        for (capability, priority), claims in lanes.items():
            if capability != job.capability or priority >= job.priority:
                continue
            for claimed_ns, told in claims.between(wait.from_ns, wait.until_ns):
                if _is_in(disturbed, claimed_ns):
                    continue
                sentence = (
                    f"its priority is {job.priority}, it was acked at {at(ack.event.at_ns)} ({ack.file}) and waited "
                    f"until {at(wait.until_ns + ns(CLAIM_SPREAD_S))}; {told.event.execution_id} of "
                    f"{told.event.job_id} with priority {priority} was claimed for {told.name} at {at(claimed_ns)} "
                    f"({told.file})"
                )
                yield Violation("priority_is_kept", job.job_id, sentence)
                break


def undisturbed_waits(history: History, database: DatabaseFacts) -> int:
    """How many jobs above the lowest priority waited so long that the rule had something to look at."""
    disturbed = _disturbed(history)
    lowest = min((job.priority for job in database.jobs.values()), default=0)
    return sum(
        wait.job.priority > lowest and not (_is_in(disturbed, wait.from_ns) or _is_in(disturbed, wait.until_ns))
        for wait in _waits(history, database)
    )


def _waits(history: History, database: DatabaseFacts) -> Iterator[_Wait]:
    for job_id, ack in history.acks.items():
        job, executions = database.jobs.get(job_id), database.executions_of.get(job_id, ())
        if job is None or not executions:
            continue
        ends = [time for time in (executions[0].claimed_ns, executions[0].finished_ns) if time is not None]
        from_ns = ack.event.at_ns + ns(HEAD_START_S)
        until_ns = min(ends, default=database.read_ns) - ns(CLAIM_SPREAD_S)
        if from_ns < until_ns:
            yield _Wait(job, ack, from_ns, until_ns)


def _disturbed(history: History) -> Sequence[tuple[int, int]]:
    """When the order is not asked about."""
    faults = sorted(history.faults, key=lambda fault: fault.begin_ns)
    delays = [fault for fault in faults if fault.kind in DELAYING]
    windows = []
    for fault in faults:
        if fault.kind in DISTURBING:
            settled_ns = fault.end_ns + ns(SETTLING_S)
            for delay in delays:
                if delay.begin_ns <= settled_ns:
                    settled_ns = max(settled_ns, delay.end_ns + ns(SETTLING_S))
            windows.append((fault.begin_ns, settled_ns))
    return windows


def _is_in(windows: Sequence[tuple[int, int]], time_ns: int) -> bool:
    return any(begin_ns <= time_ns <= end_ns for begin_ns, end_ns in windows)


def _lanes(history: History, database: DatabaseFacts) -> dict[tuple[str, int], _Claims]:
    lanes: defaultdict[tuple[str, int], _Claims] = defaultdict(_Claims)
    for told in history.deliveries:
        execution = database.executions.get(told.event.execution_id)
        job = None if execution is None else database.jobs.get(execution.job_id)
        if execution is not None and job is not None and execution.claimed_ns is not None:
            lanes[job.capability, job.priority].found.append((execution.claimed_ns, told))
    for claims in lanes.values():
        claims.found.sort(key=lambda claim: claim[0])
    return lanes
