"""How much a run gave each rule to look at: a rule that saw nothing has not been kept, only not been tried."""

from collections import Counter
from collections.abc import Mapping

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.sdk.job import TERMINAL
from faults.database_facts import DatabaseFacts
from faults.events import Outcome, ResultAcked, SubmitAcked
from faults.history import History
from faults.priority_rule import undisturbed_waits


def coverage(history: History, database: DatabaseFacts) -> Mapping[str, int]:
    """By rule, how often it had something to say about; the comments say what is counted."""
    acks_of_key = Counter(told.event.key for told in history.told(SubmitAcked))
    results = history.told(ResultAcked)
    accepted = {told.event.execution_id for told in results if told.event.outcome is Outcome.ACCEPTED}
    answers = Counter(told.event.execution_id for told in results if told.event.execution_id in accepted)
    holds_of_job = Counter(job_id for job_id, _ in {(hold.job_id, hold.execution_id) for hold in history.holds})
    return {
        # Jobs whose submit was acked.
        "acked_jobs_end": len(history.acks),
        # Further answers about executions of which a result was accepted.
        "accepted_results_agree": sum(answers.values()) - len(answers),
        # Executions that were held after another one of the same job.
        "leases_exclude_each_other": sum(holds_of_job.values()) - len(holds_of_job),
        # Executions that were held and ended as lost.
        "leases_last": sum(
            database.executions[execution_id].end_reason is EndReason.LEASE_LOST
            for execution_id in {hold.execution_id for hold in history.holds} & database.executions.keys()
        ),
        # Jobs with more than one attempt.
        "attempts_stay_within_budget": sum(attempts > 1 for attempts in history.attempts_seen().values()),
        # Executions that follow another one of the same job.
        "attempts_are_counted": len(database.executions) - len(database.executions_of),
        # Looks at a job that had been seen ended before.
        "ended_jobs_stay_ended": sum(
            max(0, sum(told.event.status in TERMINAL for told in sightings) - 1)
            for sightings in history.sightings.values()
        ),
        # Acks of a key that had been acked before.
        "one_key_is_one_job": sum(acks_of_key.values()) - len(acks_of_key),
        # Executions that came to workers.
        "seen_executions_exist": len(history.deliveries),
        # Executions that succeeded.
        "successes_were_seen": sum(row.state is ExecutionState.SUCCEEDED for row in database.executions.values()),
        # Jobs above the lowest priority that waited for more than two seconds without a disturbing fault.
        "priority_is_kept": undisturbed_waits(history, database),
    }
