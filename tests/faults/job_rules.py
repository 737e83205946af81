"""The rules about jobs: what was acked ends once, one key is one job, and attempts are counted and bounded."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.job import JobState
from dispatchd.sdk.job import TERMINAL, JobStatus
from faults.database_facts import DatabaseFacts, ExecutionFact
from faults.events import JobSeen, SubmitAcked, SubmitFailed
from faults.history import History, Redrive, Told
from faults.violation import Violation, at

_STATUS = {
    JobState.ACTIVE: JobStatus.UNSPECIFIED,
    JobState.SUCCEEDED: JobStatus.SUCCEEDED,
    JobState.FAILED: JobStatus.FAILED,
    JobState.CANCELED: JobStatus.CANCELED,
}


def acked_jobs_end(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """A job whose submit was acked is in the database, and has ended."""
    for job_id, ack in history.acks.items():
        job = database.jobs.get(job_id)
        acked = f"{ack.name} was told at {at(ack.event.at_ns)} ({ack.file}) that it is stored"
        if job is None:
            yield Violation("acked_jobs_end", job_id, f"{acked}, and the database does not know it")
        elif job.state is JobState.ACTIVE:
            yield Violation("acked_jobs_end", job_id, f"{acked}, and it has not ended at {at(database.read_ns)}")


def one_key_is_one_job(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """Every ack of a key names the same job, which has that key in the database; nobody else has it."""
    by_key: defaultdict[str, list[Told[SubmitAcked]]] = defaultdict(list)
    for ack in history.told(SubmitAcked):
        by_key[ack.event.key].append(ack)
    stored = {job.key: job.job_id for job in database.jobs.values() if job.key is not None}
    for key, acks in by_key.items():
        first = acks[0]
        told = f"key {key!r} was acked for it at {at(first.event.at_ns)} ({first.file})"
        for other in acks:
            if other.event.job_id != first.event.job_id:
                again = f"and for {other.event.job_id} at {at(other.event.at_ns)} ({other.file})"
                yield Violation("one_key_is_one_job", first.event.job_id, f"{told}, {again}")
                break
        else:
            job = database.jobs.get(first.event.job_id)
            if job is not None and job.key != key:
                found = f"and the database has {job.key!r} there and the key at {stored.get(key, 'no job')}"
                yield Violation("one_key_is_one_job", job.job_id, f"{told}, {found}")
    for failed in history.told(SubmitFailed):
        if failed.event.code == "ALREADY_EXISTS":
            sentence = (
                f"{failed.name} was told at {at(failed.event.at_ns)} ({failed.file}) that key {failed.event.key!r} "
                "belongs to another request, and it never sent another"
            )
            yield Violation("one_key_is_one_job", stored.get(failed.event.key, "no job"), sentence)


def attempts_stay_within_budget(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """No attempt number is above max_attempts × (1 + redrives), as the submitter asked for them."""
    seen = history.attempts_seen()
    for job_id, job in database.jobs.items():
        ack = history.acks.get(job_id)
        request = None if ack is None else history.requests.get(ack.event.key)
        most_a_budget = job.max_attempts if request is None else request.event.max_attempts
        redrives = len(history.redrives.get(job_id, ()))
        most = most_a_budget * (1 + redrives)
        stored = max((execution.attempt for execution in database.executions_of.get(job_id, ())), default=0)
        if max(stored, seen[job_id]) > most:
            sentence = (
                f"attempt {max(stored, seen[job_id])} of at most {most_a_budget} × (1 + {redrives} redrives) = {most}; "
                f"the database has {stored}, clients and workers were told of {seen[job_id]}"
            )
            yield Violation("attempts_stay_within_budget", job_id, sentence)


def attempts_are_counted(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """What follows a failed, lost or timed-out execution has the next attempt number, what follows a returned one the
    same; deliveries are numbered without a gap. (After a dead letter a redrive goes on with both.)"""
    for job_id, executions in database.executions_of.items():
        expected = (1, 1)
        for execution in executions:
            numbers = (execution.attempt, execution.delivery)
            if numbers != expected:
                sentence = (
                    f"{execution.execution_id} is attempt {numbers[0]} and delivery {numbers[1]}; by what went before "
                    f"it should be attempt {expected[0]} and delivery {expected[1]}"
                )
                yield Violation("attempts_are_counted", job_id, sentence)
            is_return = execution.end_reason is EndReason.RETURNED and execution.state is ExecutionState.FAILED
            expected = (execution.attempt + (0 if is_return else 1), execution.delivery + 1)


def ended_jobs_stay_ended(history: History, database: DatabaseFacts) -> Iterator[Violation]:
    """What was seen ended is seen so for ever, unless it had failed and was redriven; the executions agree.

    Two calls that overlap in time may be answered in any order, so only calls that follow each other are compared.
    """
    for job_id, sightings in history.sightings.items():
        redrives = history.redrives.get(job_id, ())
        seen = [*sightings, *_seen_in_database(job_id, database)]
        yield from _reversal(job_id, seen, redrives)
    for job_id, executions in database.executions_of.items():
        yield from _went_on(job_id, executions, len(history.redrives.get(job_id, ())))


def _seen_in_database(job_id: str, database: DatabaseFacts) -> Iterator[Told[JobSeen]]:
    job, executions = database.jobs.get(job_id), database.executions_of.get(job_id, ())
    if job is not None and executions:
        newest = executions[-1]
        attempts = newest.attempt - (newest.claimed_ns is None)
        read_ns = database.read_ns
        yield Told(
            "the database", "the database", JobSeen(read_ns, read_ns, job_id, _STATUS[job.state], attempts, "read")
        )


def _reversal(job_id: str, seen: Sequence[Told[JobSeen]], redrives: Sequence[Redrive]) -> Iterator[Violation]:
    for number, earlier in enumerate(seen):
        was = earlier.event
        if was.status not in TERMINAL:
            continue
        for later in seen[number + 1 :]:
            now = later.event
            is_same = (now.status, now.attempts) == (was.status, was.attempts)
            if now.asked_ns <= was.at_ns or is_same or _may_be_redriven(was, now, redrives):
                continue
            sentence = f"{_as_seen(earlier)}; {_as_seen(later)}, and no redrive lies between"
            yield Violation("ended_jobs_stay_ended", job_id, sentence)
            return


def _may_be_redriven(was: JobSeen, now: JobSeen, redrives: Sequence[Redrive]) -> bool:
    return was.status is JobStatus.FAILED and any(
        redrive.from_ns <= now.at_ns and was.asked_ns <= redrive.until_ns for redrive in redrives
    )


def _as_seen(told: Told[JobSeen]) -> str:
    seen = told.event
    status = "not ended" if seen.status is JobStatus.UNSPECIFIED else seen.status.value
    return (
        f"{told.name} saw it {status} with {seen.attempts} attempts "
        f"(asked {at(seen.asked_ns)}, answered {at(seen.at_ns)}, {told.file})"
    )


def _went_on(job_id: str, executions: Sequence[ExecutionFact], redrives: int) -> Iterator[Violation]:
    dead = 0
    for execution, following in pairwise(executions):
        dead += execution.state is ExecutionState.DEAD_LETTERED
        is_end = execution.state is ExecutionState.SUCCEEDED or execution.end_reason is EndReason.CANCELED
        if is_end or dead > redrives:
            sentence = (
                f"{execution.execution_id} (delivery {execution.delivery}) ended it as {execution.state.value}, and "
                f"{following.execution_id} (delivery {following.delivery}) follows; it was redriven {redrives} times"
            )
            yield Violation("ended_jobs_stay_ended", job_id, sentence)
            return
