"""Random healthy histories raise no violation; one that is corrupted in one place is caught by the rule it breaks."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.job import JobState
from dispatchd.sdk.job import TERMINAL, JobStatus
from faults.checker import RULES, check
from faults.coverage import coverage
from faults.database_facts import DatabaseFacts, ExecutionFact, JobFact
from faults.events import (
    Assigned,
    Event,
    JobSeen,
    LeaseAcked,
    LedgerRole,
    Opened,
    Outcome,
    RegistrationSent,
    ResultAcked,
    SubmitAcked,
)
from faults.history import History
from faults.ledger import Ledger
from faults.simulator import MAX_ATTEMPTS, healthy_history
from faults.story import CAPABILITY, END_S
from faults.violation import ns

LONGEST_STEPS = 120


@dataclass(frozen=True, slots=True)
class Run:
    """What the checker gets to read."""

    ledgers: Sequence[Ledger]
    database: DatabaseFacts

    @property
    def history(self) -> History:
        return History(self.ledgers)

    def violated(self) -> set[str]:
        return {violation.rule for violation in check(self.ledgers, self.database)}

    def with_events(self, *events: Event, file: str = "another.ledger", name: str = "another") -> "Run":
        """With these events added to a ledger, which is new if there is none of that name."""
        ledgers = {ledger.file: ledger for ledger in self.ledgers}
        ledger = ledgers.get(file, Ledger(file, Opened(0, LedgerRole.RAW_WORKER, name, file), ()))
        ordered = sorted((*ledger.events, *events), key=lambda event: event.at_ns)
        return replace(self, ledgers=[*(ledgers | {file: replace(ledger, events=tuple(ordered))}).values()])

    def without(self, is_gone: Callable[[Event], bool]) -> "Run":
        kept = [
            replace(ledger, events=tuple(event for event in ledger.events if not is_gone(event)))
            for ledger in self.ledgers
        ]
        return replace(self, ledgers=kept)

    def with_job(self, job: JobFact) -> "Run":
        return self._with_tables({**self.database.jobs, job.job_id: job}, self.database.executions)

    def with_execution(self, execution: ExecutionFact) -> "Run":
        executions = {**self.database.executions, execution.execution_id: execution}
        return self._with_tables(self.database.jobs, executions)

    def without_job(self, job_id: str) -> "Run":
        kept = {each: job for each, job in self.database.jobs.items() if each != job_id}
        return self._with_tables(kept, self.database.executions)

    def without_execution(self, execution_id: str) -> "Run":
        kept = {each: row for each, row in self.database.executions.items() if each != execution_id}
        return self._with_tables(self.database.jobs, kept)

    def _with_tables(self, jobs: Mapping[str, JobFact], executions: Mapping[str, ExecutionFact]) -> "Run":
        return replace(self, database=DatabaseFacts(self.database.read_ns, jobs, executions))


Corrupt = Callable[[Run, random.Random], Run]
CORRUPTIONS: list[tuple[str, Corrupt]] = []


def breaks(rule: str) -> Callable[[Corrupt], Corrupt]:
    """The corruption breaks this rule, and may break others. It calls `assume` where it can't be done."""

    def note(corrupt: Corrupt) -> Corrupt:
        CORRUPTIONS.append((rule, corrupt))
        return corrupt

    return note


@breaks("acked_jobs_end")
def an_acked_job_vanishes(run: Run, chance: random.Random) -> Run:
    return run.without_job(chance.choice(list(run.database.jobs)))


@breaks("acked_jobs_end")
def an_acked_job_is_active_for_ever(run: Run, chance: random.Random) -> Run:
    job = chance.choice(list(run.database.jobs.values()))
    return run.with_job(replace(job, state=JobState.ACTIVE))


@breaks("accepted_results_agree")
def a_contradiction_is_accepted(run: Run, chance: random.Random) -> Run:
    accepted = [told for told in run.history.told(ResultAcked) if told.event.outcome is Outcome.ACCEPTED]
    assume(accepted)
    told = chance.choice(accepted)
    other = replace(told.event, at_ns=told.event.at_ns + 1, success=not told.event.success)
    return run.with_events(other, file=told.file)


@breaks("accepted_results_agree")
def an_accepted_result_is_not_in_the_database(run: Run, chance: random.Random) -> Run:
    accepted = [told.event for told in run.history.told(ResultAcked) if told.event.outcome is Outcome.ACCEPTED]
    assume(accepted)
    execution = run.database.executions[chance.choice(accepted).execution_id]
    return run.with_execution(replace(execution, state=ExecutionState.FAILED, end_reason=EndReason.LEASE_LOST))


@breaks("leases_exclude_each_other")
def another_worker_gets_a_job_that_is_held(run: Run, chance: random.Random) -> Run:
    assume(run.history.holds)
    hold = chance.choice(run.history.holds)
    at_ns = chance.randint(hold.begin_ns, hold.end_ns - 1)
    execution_id = chance.choice([hold.execution_id, "e-second"])
    return run.with_events(
        RegistrationSent(at_ns - 2, 1, ()),
        LeaseAcked(at_ns - 1, 1, at_ns - 2, ns(1.0), ()),
        Assigned(at_ns, 1, execution_id, hold.job_id, 1, 0),
    )


@breaks("leases_last")
def an_execution_is_ended_as_lost_too_early(run: Run, chance: random.Random) -> Run:
    held = [hold for hold in run.history.holds if hold.end_ns - hold.begin_ns > ns(0.1)]
    assume(held)
    hold = chance.choice(held)
    execution = run.database.executions[hold.execution_id]
    finished_ns = chance.randint(hold.begin_ns, hold.end_ns - ns(0.05))
    return run.with_execution(
        replace(execution, state=ExecutionState.FAILED, end_reason=EndReason.LEASE_LOST, finished_ns=finished_ns)
    )


@breaks("attempts_stay_within_budget")
def a_job_has_too_many_attempts(run: Run, chance: random.Random) -> Run:
    execution = chance.choice(list(run.database.executions.values()))
    redrives = len(run.history.redrives.get(execution.job_id, ()))
    return run.with_execution(replace(execution, attempt=MAX_ATTEMPTS * (1 + redrives) + 1))


@breaks("attempts_stay_within_budget")
def a_worker_is_told_of_too_many_attempts(run: Run, chance: random.Random) -> Run:
    assigned = run.history.told(Assigned)
    assume(assigned)
    told = chance.choice(assigned)
    redrives = len(run.history.redrives.get(told.event.job_id, ()))
    again = replace(told.event, at_ns=told.event.at_ns + 1, attempt=MAX_ATTEMPTS * (1 + redrives) + 1)
    return run.with_events(again, file=told.file)


@breaks("attempts_are_counted")
def an_attempt_has_another_number(run: Run, chance: random.Random) -> Run:
    execution = chance.choice(list(run.database.executions.values()))
    return run.with_execution(replace(execution, attempt=execution.attempt + chance.choice((-1, 1))))


@breaks("attempts_are_counted")
def a_delivery_vanishes_before_the_last(run: Run, chance: random.Random) -> Run:
    earlier = [each for rows in run.database.executions_of.values() for each in rows[:-1]]
    assume(earlier)
    return run.without_execution(chance.choice(earlier).execution_id)


@breaks("ended_jobs_stay_ended")
def an_ended_job_is_seen_otherwise(run: Run, chance: random.Random) -> Run:
    ended = [told.event for told in run.history.told(JobSeen) if told.event.status in TERMINAL - {JobStatus.FAILED}]
    assume(ended)
    seen = chance.choice(ended)
    other = chance.choice([status for status in JobStatus if status is not seen.status])
    later_ns = seen.at_ns + chance.randrange(1, ns(1.0))
    return run.with_events(replace(seen, asked_ns=later_ns, at_ns=later_ns + 1, status=other), file="client.ledger")


@breaks("ended_jobs_stay_ended")
def the_end_in_the_database_is_another_than_was_seen(run: Run, chance: random.Random) -> Run:
    ended = [told.event for told in run.history.told(JobSeen) if told.event.status in TERMINAL - {JobStatus.FAILED}]
    assume(ended)
    job = run.database.jobs[chance.choice(ended).job_id]
    return run.with_job(replace(job, state=JobState.FAILED))


@breaks("ended_jobs_stay_ended")
def a_delivery_follows_the_last(run: Run, chance: random.Random) -> Run:
    ended = [job.job_id for job in run.database.jobs.values() if job.state is not JobState.FAILED]
    assume(ended)
    last = run.database.executions_of[chance.choice(ended)][-1]
    return run.with_execution(replace(last, execution_id="e-late", delivery=last.delivery + 1))


@breaks("one_key_is_one_job")
def a_key_is_acked_for_another_job(run: Run, chance: random.Random) -> Run:
    ack = chance.choice(run.history.told(SubmitAcked)).event
    return run.with_events(replace(ack, at_ns=ack.at_ns + 1, job_id="j-other"), file="client.ledger")


@breaks("one_key_is_one_job")
def a_job_has_another_key_in_the_database(run: Run, chance: random.Random) -> Run:
    return run.with_job(replace(chance.choice(list(run.database.jobs.values())), key="another key"))


@breaks("seen_executions_exist")
def an_execution_vanishes_that_a_worker_saw(run: Run, chance: random.Random) -> Run:
    assigned = run.history.told(Assigned)
    assume(assigned)
    return run.without_execution(chance.choice(assigned).event.execution_id)


@breaks("seen_executions_exist")
def an_execution_belongs_to_another_job(run: Run, chance: random.Random) -> Run:
    assigned = run.history.told(Assigned)
    assume(assigned)
    execution = run.database.executions[chance.choice(assigned).event.execution_id]
    return run.with_execution(replace(execution, job_id="j-other"))


@breaks("successes_were_seen")
def nobody_saw_the_assignment_of_a_success(run: Run, chance: random.Random) -> Run:
    execution_id = chance.choice(_succeeded(run)).execution_id
    return run.without(lambda event: isinstance(event, Assigned) and event.execution_id == execution_id)


@breaks("successes_were_seen")
def a_success_names_another_worker(run: Run, chance: random.Random) -> Run:
    return run.with_execution(replace(chance.choice(_succeeded(run)), worker_id="w-other"))


def _succeeded(run: Run) -> list[ExecutionFact]:
    succeeded = [each for each in run.database.executions.values() if each.state is ExecutionState.SUCCEEDED]
    assume(succeeded)
    return succeeded


@breaks("priority_is_kept")
def a_more_urgent_job_waits_for_ever(run: Run, chance: random.Random) -> Run:
    claimed = [row for row in run.database.executions.values() if row.claimed_ns is not None]
    seen = {told.event.execution_id for told in run.history.told(Assigned)}
    claimed = [row for row in claimed if row.execution_id in seen and (row.claimed_ns or 0) > ns(2.5)]
    assume(claimed)
    claimed_ns = chance.choice(claimed).claimed_ns or 0
    job = JobFact("j-urgent", CAPABILITY, 99, JobState.CANCELED, "urgent", 1)
    execution = ExecutionFact(
        "e-urgent", "j-urgent", 1, 1, ExecutionState.FAILED, EndReason.CANCELED, None, None, ns(END_S)
    )
    acked = SubmitAcked(claimed_ns - ns(1.1), "urgent", "j-urgent")
    return run.with_job(job).with_execution(execution).with_events(acked, file="client.ledger")


def healthy_run(seed: int, steps: int) -> Run:
    story = healthy_history(random.Random(seed), steps)
    return Run(story.ledgers(), story.database())


# Drawn as a seed: hundreds of single draws for each history take Hypothesis a hundred times as long.
seeds = st.integers(0, 2**32 - 1)
steps_of_a_run = st.integers(10, LONGEST_STEPS)


@settings(max_examples=300, deadline=None)
@given(seed=seeds, steps=steps_of_a_run)
def test_healthy_history_raises_no_violation(seed: int, steps: int) -> None:
    run = healthy_run(seed, steps)
    assert [str(violation) for violation in check(run.ledgers, run.database)] == []


@pytest.mark.parametrize(("rule", "corrupt"), CORRUPTIONS, ids=lambda value: getattr(value, "__name__", str(value)))
@settings(max_examples=30, deadline=None)
@given(seed=seeds, steps=steps_of_a_run)
def test_corrupted_history_is_caught(rule: str, corrupt: Corrupt, seed: int, steps: int) -> None:
    assert rule in corrupt(healthy_run(seed, steps), random.Random(seed)).violated()


def test_every_rule_is_broken_by_a_corruption() -> None:
    assert {rule for rule, _ in CORRUPTIONS} == {rule.__name__ for rule in RULES}


def test_healthy_histories_have_what_the_rules_look_at() -> None:
    run = healthy_run(1, 1_000)
    ends = {(row.state, row.end_reason) for row in run.database.executions.values()}
    assert ends >= {
        (ExecutionState.SUCCEEDED, EndReason.SUCCEEDED),
        (ExecutionState.FAILED, EndReason.LEASE_LOST),
        (ExecutionState.FAILED, EndReason.RETURNED),
        (ExecutionState.FAILED, EndReason.CANCELED),
        (ExecutionState.DEAD_LETTERED, EndReason.FAILED),
    }
    assert run.history.redrives
    assert {told.event.outcome for told in run.history.told(ResultAcked)} == {Outcome.ACCEPTED, Outcome.STALE}
    covered = coverage(run.history, run.database)
    assert covered.keys() == {rule.__name__ for rule in RULES}
    assert all(covered.values()), covered
    assert {hold.ended_by for hold in run.history.holds} >= {"its result", "its give-back", "the end of its lease"}
