"""How soon an installation recovers, measured from the ledgers and the database after single faults.

SIGKILL of a role ─────▶ the first ack of a submit that was tried after it, at the slower client
                  └────▶ the first assignment of a job that was acked after it
the leader goes ───────▶ another one has the lock
a worker is killed ────▶ what it held is ended ──▶ due again ──▶ read by a worker
a gateway drains ······▶ executions of the SDK's workers that were lost or failed against their handler's will
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dispatchd.domain.execution import EndReason
from faults.database_facts import DatabaseFacts, ExecutionFact
from faults.events import (
    Assigned,
    GiveBackAcked,
    HandlerBegan,
    HandlerEnd,
    HandlerEnded,
    LeaderSeen,
    LedgerRole,
    ResultAcked,
    SubmitAcked,
    Submitted,
)
from faults.history import FOREVER_NS, FaultWindow, History
from faults.ledger import Ledger
from faults.violation import ns

WORKS_AGAIN_S = 10.0
LEADER_GAP_S = 3.0
ENDED_BEYOND_LEASE_S = 2.0
NEXT_ATTEMPT_S = 0.25
BUSY = 4
# What is over less than this before a fault could be what is measured.
QUIET_S = 1.0
_TAKING_LEADERSHIP = frozenset(
    {"kill_scheduler_leader", "freeze_scheduler_leader", "terminate_scheduler_leader", "restart_scheduler_leader"}
)
_DRAINS = frozenset({"terminate_gateway", "restart_gateway"})
_KILLED_WORKERS = frozenset({"kill_worker", "kill_sdk_worker"})
_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number that has a target: seconds, or a count. `what` is the target's name."""

    what: str
    fault: str
    value: float
    most: float

    @property
    def is_met(self) -> bool:
        return self.value <= self.most

    @property
    def is_nearly_met(self) -> bool:
        """Whether a machine that does other work meanwhile may be why it is missed."""
        return self.value <= BUSY * self.most

    def __str__(self) -> str:
        return f"{self.what} after {self.fault}: {self.value:.3f} (at most {self.most:g})"


def measure(history: History, database: DatabaseFacts, lease_s: float) -> Sequence[Measurement]:
    """Of every fault that was alone."""
    found: list[Measurement] = []
    for window in history.faults:
        if not _is_alone(window, history.faults):
            continue
        if window.fault.startswith("kill_"):
            found += _works_again(window, history)
        if window.fault in _TAKING_LEADERSHIP:
            found += _leader_gap(window, history)
        if window.fault in _KILLED_WORKERS:
            found += _lost_executions(window, history, database, lease_s)
        if window.fault in _DRAINS:
            found.append(_burned_attempts(window, history, database, lease_s))
    return found


def _is_alone(window: FaultWindow, faults: Sequence[FaultWindow]) -> bool:
    return all(
        other is window or other.end_ns + ns(QUIET_S) < window.begin_ns or window.end_ns < other.begin_ns
        for other in faults
    )


def _works_again(window: FaultWindow, history: History) -> Iterator[Measurement]:
    began_ns = window.begin_ns
    first_acks = []
    jobs: set[str] = set()
    for ledger in history.ledgers:
        if ledger.opened.role is not LedgerRole.CLIENT or ledger.name.startswith("burst"):
            continue
        tried: dict[str, int] = {}
        acks = []
        for event in ledger.events:
            if isinstance(event, Submitted):
                tried[event.key] = event.at_ns
            elif isinstance(event, SubmitAcked) and tried[event.key] >= began_ns:
                acks.append(event)
        jobs |= {ack.job_id for ack in acks}
        first_acks.append(min((ack.at_ns for ack in acks), default=FOREVER_NS))
    yield Measurement("submits_work_again_s", window.fault, (max(first_acks) - began_ns) / _S, WORKS_AGAIN_S)
    first_ns = min(
        (told.event.at_ns for told in history.deliveries if told.event.at_ns > began_ns and told.event.job_id in jobs),
        default=FOREVER_NS,
    )
    yield Measurement("assignments_work_again_s", window.fault, (first_ns - began_ns) / _S, WORKS_AGAIN_S)


def _leader_gap(window: FaultWindow, history: History) -> Iterator[Measurement]:
    seen = history.told(LeaderSeen)
    before = [told.event.owner for told in seen if told.event.at_ns <= window.begin_ns]
    if not before or not before[-1].startswith(window.target):
        return
    after_ns = min(
        (
            told.event.at_ns
            for told in seen
            if told.event.at_ns > window.begin_ns and told.event.owner not in ("", before[-1])
        ),
        default=FOREVER_NS,
    )
    yield Measurement("leader_gap_s", window.fault, (after_ns - window.begin_ns) / _S, LEADER_GAP_S)


def _lost_executions(
    window: FaultWindow, history: History, database: DatabaseFacts, lease_s: float
) -> Iterator[Measurement]:
    first_read: dict[str, int] = {}
    for told in history.deliveries:
        first_read.setdefault(told.event.execution_id, told.event.at_ns)
    for execution_id in _held_at(window, history):
        execution = database.executions.get(execution_id)
        if execution is None or execution.end_reason is not EndReason.LEASE_LOST or execution.finished_ns is None:
            continue
        ended_s = (execution.finished_ns - window.begin_ns) / _S
        yield Measurement("lost_execution_ended_s", window.fault, ended_s, lease_s + ENDED_BEYOND_LEASE_S)
        following = _next_attempt(execution, database)
        if following is not None and following.execution_id in first_read:
            late_s = (first_read[following.execution_id] - following.due_ns) / _S
            yield Measurement("next_attempt_late_s", window.fault, late_s, NEXT_ATTEMPT_S)


def _next_attempt(execution: ExecutionFact, database: DatabaseFacts) -> ExecutionFact | None:
    return next(
        (each for each in database.executions_of[execution.job_id] if each.delivery == execution.delivery + 1), None
    )


def _held_at(window: FaultWindow, history: History) -> set[str]:
    held: set[str] = set()
    for ledger in history.ledgers:
        if ledger.name == window.target and ledger.opened.at_ns < window.begin_ns:
            held |= _held_in(ledger)
    return held


def _held_in(ledger: Ledger) -> set[str]:
    """What the last process of a killed worker had when its ledger ended."""
    held: set[str] = set()
    for event in ledger.events:
        match event:
            case Assigned() | HandlerBegan():
                held.add(event.execution_id)
            case ResultAcked() | GiveBackAcked() | HandlerEnded():
                held.discard(event.execution_id)
            case _:
                pass
    return held


def _burned_attempts(window: FaultWindow, history: History, database: DatabaseFacts, lease_s: float) -> Measurement:
    sdk_workers = {ledger.name for ledger in history.ledgers if ledger.opened.role is LedgerRole.SDK_WORKER}
    ends: defaultdict[str, set[HandlerEnd]] = defaultdict(set)
    for told in history.told(HandlerEnded):
        ends[told.event.execution_id].add(told.event.end)
    until_ns = window.end_ns + ns(lease_s + ENDED_BEYOND_LEASE_S)
    burned = 0
    for execution in database.executions.values():
        finished_ns = execution.finished_ns
        if finished_ns is None or not window.begin_ns <= finished_ns <= until_ns:
            continue
        if execution.worker_id not in sdk_workers:
            continue
        is_lost = execution.end_reason in (EndReason.LEASE_LOST, EndReason.TIMED_OUT)
        is_unplanned = (
            execution.end_reason is EndReason.FAILED and HandlerEnd.RAISED not in ends[execution.execution_id]
        )
        burned += is_lost or is_unplanned
    return Measurement("attempts_burned_by_drain", window.fault, float(burned), 0.0)
