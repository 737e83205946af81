"""The rules about executions: who saw them, what was accepted about them, and who held them."""

from collections import defaultdict
from collections.abc import Iterator

from dispatchd.domain.execution import EndReason, ExecutionState
from faults.database_facts import DatabaseFacts
from faults.events import Outcome, ResultAcked
from faults.history import History, Told
from faults.leases import Hold
from faults.violation import Violation, at, ns

CLOCKS_APART_S = 0.02
"""How exactly times of the database can be put on the clock of the ledgers."""


def accepted_results_agree(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """All accepted results of one execution carry the same success flag, which is the one in the database."""
    by_execution: defaultdict[str, list[Told[ResultAcked]]] = defaultdict(list)
    for told in history.told(ResultAcked):
        if told.event.outcome is Outcome.ACCEPTED:
            by_execution[told.event.execution_id].append(told)
    for execution_id, acks in by_execution.items():
        first = acks[0]
        execution = database.executions.get(execution_id)
        job_id = "no job" if execution is None else execution.job_id
        other = next((ack for ack in acks if ack.event.success is not first.event.success), None)
        if other is not None:
            sentence = f"{execution_id}: {_accepted(first)}, {_accepted(other)}"
            yield Violation("accepted_results_agree", job_id, sentence)
        elif execution is not None:
            stored = EndReason.SUCCEEDED if first.event.success else EndReason.FAILED
            if execution.end_reason is not stored:
                found = "not ended" if execution.end_reason is None else f"ended as {execution.end_reason.value}"
                sentence = f"{execution_id}: {_accepted(first)}, and in the database it is {found}"
                yield Violation("accepted_results_agree", job_id, sentence)


def _accepted(told: Told[ResultAcked]) -> str:
    word = "success" if told.event.success else "failure"
    return f"a {word} of {told.name} was accepted at {at(told.event.at_ns)} ({told.file})"


def leases_exclude_each_other(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """At no instant do two hold a committed, unexpired lease on the same job."""
    latest: dict[str, Hold] = {}
    for hold in history.holds:
        before = latest.get(hold.job_id)
        if before is not None and hold.begin_ns < before.end_ns:
            both_ms = (min(before.end_ns, hold.end_ns) - hold.begin_ns) / 1e6
            sentence = f"for {both_ms:.3f} ms two held it: {_held(before)}; {_held(hold)}"
            yield Violation("leases_exclude_each_other", hold.job_id, sentence)
        if before is None or before.end_ns < hold.end_ns:
            latest[hold.job_id] = hold


def leases_last(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """No execution is ended as lost while its worker holds a committed, unexpired lease on it."""
    reported: set[str] = set()
    for hold in history.holds:
        execution = database.executions.get(hold.execution_id)
        if execution is None or execution.end_reason is not EndReason.LEASE_LOST or execution.finished_ns is None:
            continue
        if execution.finished_ns + ns(CLOCKS_APART_S) < hold.end_ns and hold.execution_id not in reported:
            reported.add(hold.execution_id)
            sentence = f"it was ended as lost at {at(execution.finished_ns)}, and {_held(hold)}"
            yield Violation("leases_last", hold.job_id, sentence)


def _held(hold: Hold) -> str:
    return (
        f"{hold.execution_id} was held by {hold.worker_id} from {at(hold.begin_ns)} until {at(hold.end_ns)}, "
        f"{hold.ended_by or 'when its lease had run out and was renewed'} ({hold.file})"
    )


def seen_executions_exist(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """Every execution that a worker saw is in the database, under the job that the worker was told."""
    for told in history.deliveries:
        delivery = told.event
        execution = database.executions.get(delivery.execution_id)
        seen = f"{told.name} got {delivery.execution_id} at {at(delivery.at_ns)} ({told.file})"
        if execution is None:
            yield Violation("seen_executions_exist", delivery.job_id, f"{seen}, and the database does not know it")
        elif execution.job_id != delivery.job_id:
            sentence = f"{seen}, and in the database it belongs to {execution.job_id}"
            yield Violation("seen_executions_exist", delivery.job_id, sentence)


def successes_were_seen(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """Every succeeded execution was seen by the worker that it names."""
    seen = {(told.name, told.event.execution_id) for told in history.deliveries}
    for execution in database.executions.values():
        if execution.state is not ExecutionState.SUCCEEDED:
            continue
        if (execution.worker_id, execution.execution_id) not in seen:
            others = sorted(f"{told.name} ({told.file})" for told in history.deliveries_of(execution.execution_id))
            sentence = (
                f"{execution.execution_id} succeeded and names {execution.worker_id}, which never saw it; "
                f"seen by: {', '.join(others) or 'nobody'}"
            )
            yield Violation("successes_were_seen", execution.job_id, sentence)
