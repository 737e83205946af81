"""The rule about priority: strict, but only where the clocks and the machine leave no doubt.

A job waits for its first claim from its ack on. If one of lower priority and the same capability is claimed meanwhile,
the order was broken:

    ack ──── 1 s ────┬──────── nothing lower may be claimed in here ────────┬── 1 s ── first claim, or its end
                     └─ no fault of Redis, gateway or control-plane, nor one that ended less than 5 s ago

The second before the claim: who takes an entry from the queue first may commit its claim last. The five seconds: what a
fault has lost is put back by the repairer, which looks every two seconds and wants to miss an entry twice. Later
attempts are not asked about, because the ledgers don't say when a backoff is over.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from faults.database_facts import DatabaseFacts
from faults.events import Assigned, FaultKind, HandlerBegan
from faults.history import FOREVER_NS, History, Told
from faults.violation import Violation, at, ns

HEAD_START_S = 1.0
CLAIM_SPREAD_S = 1.0
SETTLING_S = 5.0
DISTURBING = frozenset({FaultKind.REDIS, FaultKind.GATEWAY, FaultKind.CONTROL_PLANE})


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


def priority_is_kept(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """While an acked job waits for its first claim, nothing of lower priority and the same capability is claimed."""
    lanes = _lanes(history, database)
    disturbed = disturbed_windows(history)
    for job_id, ack in history.acks.items():
        job, executions = database.jobs.get(job_id), database.executions_of.get(job_id, ())
        if job is None or not executions:
            continue
        ends = [time for time in (executions[0].claimed_ns, executions[0].finished_ns) if time is not None]
        from_ns = ack.event.at_ns + ns(HEAD_START_S)
        until_ns = min(ends, default=database.read_ns) - ns(CLAIM_SPREAD_S)
        for (capability, priority), claims in lanes.items():
            if capability != job.capability or priority >= job.priority:
                continue
            for claimed_ns, told in claims.between(from_ns, until_ns):
                if any(begin_ns <= claimed_ns <= end_ns for begin_ns, end_ns in disturbed):
                    continue
                sentence = (
                    f"its priority is {job.priority}, it was acked at {at(ack.event.at_ns)} ({ack.file}) and waited "
                    f"until {at(until_ns + ns(CLAIM_SPREAD_S))}; {told.event.execution_id} of {told.event.job_id} with "
                    f"priority {priority} was claimed for {told.name} at {at(claimed_ns)} ({told.file})"
                )
                yield Violation("priority_is_kept", job_id, sentence)
                break


def disturbed_windows(history: History) -> Sequence[tuple[int, int]]:
    """When the order is not asked about."""
    return [
        (fault.begin_ns, min(fault.end_ns + ns(SETTLING_S), FOREVER_NS))
        for fault in history.faults
        if fault.kind in DISTURBING
    ]


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
