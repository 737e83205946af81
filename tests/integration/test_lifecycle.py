"""Hypothesis drives jobs through their lives on a real database, and a model made of the domain's rules says what must
come of each step. Every change of state is written down by a trigger and must stand in the tables of transitions."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dispatchd.application.ports import Renewal
from dispatchd.application.scheduler.lease_reaper import judge
from dispatchd.domain.errors import JobNotFound
from dispatchd.domain.execution import EXECUTION_TRANSITIONS, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.job import JOB_TRANSITIONS, JobState, job_status
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import (
    Canceled,
    DeliveryCount,
    Ending,
    Failed,
    LeaseLost,
    Returned,
    Succeeded,
    TimedOut,
    settle,
)
from dispatchd.domain.worker import WorkerStatus
from stores import FENCE, LEASE, Hands, Stores, ids, insert, new_job, open_stores, register, sql

T = TypeVar("T")

WATCH = """
create table changes (of text, before text, after text);
create function note() returns trigger language plpgsql as $$
begin insert into changes values (tg_table_name, old.state, new.state); return null; end $$;
create trigger note after update on executions for each row when (old.state <> new.state) execute function note();
create trigger note after update on jobs for each row when (old.state <> new.state) execute function note();
"""
EMPTY = "truncate jobs, job_inputs, executions, worker_sessions, workers, changes"


@dataclass
class ModelExecution:
    """One execution as it must be."""

    execution_id: ExecutionId
    count: DeliveryCount
    state: ExecutionState
    session_id: SessionId | None = None


@dataclass
class ModelJob:
    """One job as it must be."""

    key: str
    policy: RetryPolicy
    state: JobState = JobState.ACTIVE
    executions: list[ModelExecution] = field(default_factory=list)

    @property
    def newest(self) -> ModelExecution:
        return self.executions[-1]


class Lives(RuleBasedStateMachine):
    """What a model of dictionaries predicts, the database must say too."""

    url: str
    loop: asyncio.AbstractEventLoop
    stores: Stores

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[JobId, ModelJob] = {}
        self.workers: list[Hands] = []
        self.registered = 0
        self.submitted = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def sql(self, statement: str, *values: object) -> list[Any]:
        async def run() -> list[Any]:
            async with sql(self.url) as session:
                rows: list[Any] = await session.fetch(statement, *values)
                return rows

        return self.do(run())

    def pick(self, data: st.DataObject, *, state: JobState | None = None) -> JobId:
        """A job, of a state if one is given; the last ones first, where things happen."""
        found = [job_id for job_id, job in self.jobs.items() if state is None or job.state is state]
        return data.draw(st.sampled_from(found[::-1]))

    def held(self) -> list[tuple[JobId, ModelExecution]]:
        return [(job_id, job.newest) for job_id, job in self.jobs.items() if job.newest.state.is_live]

    def ends(self, job_id: JobId, ending: Ending) -> None:
        """What the domain says of the newest execution's end."""
        job = self.jobs[job_id]
        settlement = settle(job.newest.count, job.policy, ending, 0.5)
        job.newest.state = settlement.state
        if settlement.job_state is not None:
            job.state = settlement.job_state
        following = settlement.next_execution
        if following is not None:
            is_ready = following.delay is None or following.delay == timedelta(0)
            state = ExecutionState.QUEUED if is_ready else ExecutionState.WAITING
            [row] = self.sql(
                "select execution_id from executions where job_id = $1 order by delivery desc limit 1", job_id
            )
            job.executions.append(ModelExecution(row["execution_id"], following.count, state))

    # --- what happens ---------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.sql(EMPTY)
        self.worker_comes()

    @rule()
    def worker_comes(self) -> None:
        self.registered += 1
        self.workers.append(self.do(register(self.stores, f"worker-{self.registered}")))

    @rule(attempts=st.integers(1, 3), waits=st.booleans(), has_key=st.booleans())
    def submit(self, attempts: int, waits: bool, has_key: bool) -> None:
        backoff = timedelta(seconds=60 if waits else 0)
        policy = RetryPolicy(attempts, backoff, backoff)
        self.submitted += 1
        new = new_job(key=f"key-{self.submitted}" if has_key else "", policy=policy)
        [stored] = self.do(insert(self.stores, new))
        assert stored.view.job_id == new.job_id
        first = ModelExecution(new.execution_id, DeliveryCount(1, 1), ExecutionState.QUEUED)
        self.jobs[new.job_id] = ModelJob(new.submission.idempotency_key, policy, executions=[first])

    @precondition(lambda self: any(job.key for job in self.jobs.values()))
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([job_id for job_id, job in self.jobs.items() if job.key]))
        job = self.jobs[job_id]
        [stored] = self.do(insert(self.stores, new_job(key=job.key, policy=job.policy)))
        assert stored.view.job_id == job_id

    @rule(most=st.integers(1, 4))
    def claim(self, most: int) -> None:
        taker = self.workers[-1]
        for claimed in self.do(taker.claim(most)):
            newest = self.jobs[claimed.job_id].newest
            assert (newest.execution_id, newest.state) == (claimed.execution_id, ExecutionState.QUEUED)
            assert claimed.attempt == newest.count.attempt
            newest.state, newest.session_id = ExecutionState.CLAIMED, taker.session_id

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def started(self, data: st.DataObject) -> None:
        _, execution = data.draw(st.sampled_from(self.held()))
        assert execution.session_id is not None
        notice = {execution.execution_id: timedelta(milliseconds=1)}
        self.do(
            self.stores.sessions.renew([Renewal(execution.session_id, "", WorkerStatus.READY, notice)], LEASE, FENCE)
        )
        execution.state = ExecutionState.RUNNING

    @precondition(lambda self: self.held())
    @rule(
        data=st.data(),
        ending=st.sampled_from(
            [
                Succeeded(b"1"),
                Failed("no"),
                Failed("no"),
                Failed("never", do_not_retry=True),
                Failed("soon", retry_after=timedelta(0)),
                TimedOut("late"),
                Returned(was_sent=True),
                Returned(was_sent=False),
            ]
        ),
    )
    def end(self, data: st.DataObject, ending: Ending) -> None:
        job_id, execution = data.draw(st.sampled_from(self.held()))
        assert self.do(self.workers[-1].end(ending, execution.execution_id)) == 1
        self.ends(job_id, ending)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), ending=st.sampled_from([Succeeded(b"late"), Failed("late"), Returned(was_sent=True)]))
    def end_too_late(self, data: st.DataObject, ending: Ending) -> None:
        job = self.jobs[self.pick(data)]
        over = [each.execution_id for each in job.executions if each.state.has_ended]
        assert self.do(self.workers[-1].end(ending, *over)) == 0

    @precondition(lambda self: len(self.workers) > 1)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        lost = self.workers.pop(data.draw(st.integers(0, len(self.workers) - 2)))
        self.sql("update worker_sessions set lease_expires_at = now() where session_id = $1", lost.session_id)
        recovery = self.stores.recovery
        assert [each for each, _ in self.do(recovery.end_expired_sessions(100, FENCE))] == [lost.session_id]
        found = self.do(recovery.executions_to_recover(100))
        on_it = [(job_id, each) for job_id, each in self.held() if each.session_id == lost.session_id]
        assert sorted(found) == sorted(each.execution_id for _, each in on_it)
        assert self.do(self.stores.settler.settle(found, judge)) == len(found)
        for job_id, _ in on_it:
            self.ends(job_id, LeaseLost(""))

    @rule()
    def time_goes_by(self) -> None:
        self.sql("update executions set due_at = now() where state = 'waiting'")
        due = {entry.execution_id for entry in self.do(self.stores.recovery.queue_due(100, FENCE))}
        waiting = [job.newest for job in self.jobs.values() if job.newest.state is ExecutionState.WAITING]
        assert due == {each.execution_id for each in waiting}
        for each in waiting:
            each.state = ExecutionState.QUEUED

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = self.pick(data)
        job = self.jobs[job_id]
        ended = self.do(self.stores.jobs.cancel(job_id, FENCE))
        assert (ended is not None) == (job.state is JobState.ACTIVE)
        if ended is not None:
            assert ended.execution_id == job.newest.execution_id
            self.ends(job_id, Canceled())

    @precondition(lambda self: any(job.state is JobState.FAILED for job in self.jobs.values()))
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        job_id, new_id = self.pick(data, state=JobState.FAILED), ids.execution_id()
        job = self.jobs[job_id]
        outcome = self.do(self.stores.jobs.redrive([(job_id, new_id)], FENCE))[job_id]
        assert outcome.entry is not None
        before = job.newest.count
        fresh = DeliveryCount(before.attempt + 1, before.delivery + 1, before.attempt, 0)
        job.executions.append(ModelExecution(new_id, fresh, ExecutionState.QUEUED))
        job.state = JobState.ACTIVE

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def redrive_what_is_no_dead_letter(self, data: st.DataObject) -> None:
        job_id = self.pick(data)
        if self.jobs[job_id].state is not JobState.FAILED:
            outcome = self.do(self.stores.jobs.redrive([(job_id, ids.execution_id())], FENCE))[job_id]
            assert (outcome.entry, outcome.state) == (None, self.jobs[job_id].state)

    @rule()
    def retention(self) -> None:
        states = [JobState.SUCCEEDED, JobState.CANCELED]
        gone = [job_id for job_id, job in self.jobs.items() if job.state in states]
        assert self.do(self.stores.recovery.delete_finished(states, timedelta(0), 100, FENCE)) == len(gone)
        for job_id in gone:
            del self.jobs[job_id]
            with pytest.raises(JobNotFound):
                self.do(self.stores.jobs.get(job_id))

    # --- what must be so ------------------------------------------------------------------------------------------

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        rows = self.sql(
            "select job_id, execution_id, attempt, delivery, attempts_before, counted_before, state, session_id "
            "from executions order by job_id, delivery"
        )
        found: dict[JobId, list[ModelExecution]] = {}
        for row in rows:
            count = DeliveryCount(row["attempt"], row["delivery"], row["attempts_before"], row["counted_before"])
            execution = ModelExecution(row["execution_id"], count, ExecutionState(row["state"]), row["session_id"])
            found.setdefault(row["job_id"], []).append(execution)
        assert found == {job_id: job.executions for job_id, job in self.jobs.items()}
        views = self.do(self.stores.jobs.summaries(list(self.jobs)))
        assert {job_id: view.status for job_id, view in views.items()} == {
            job_id: job_status(job.state, job.newest.state) for job_id, job in self.jobs.items()
        }

    @invariant()
    def an_active_job_has_one_execution_that_has_not_ended_and_an_ended_one_has_none(self) -> None:
        rows = self.sql(
            "select j.state, count(e.execution_id) filter (where e.finished_at is null) as open "
            "from jobs j left join executions e using (job_id) group by j.job_id, j.state"
        )
        assert all(row["open"] == (1 if row["state"] == "active" else 0) for row in rows)

    @invariant()
    def every_change_stands_in_the_tables(self) -> None:
        for row in self.sql("select distinct of, before, after from changes"):
            if row["of"] == "jobs":
                assert (JobState(row["before"]), JobState(row["after"])) in JOB_TRANSITIONS
            else:
                assert (ExecutionState(row["before"]), ExecutionState(row["after"])) in EXECUTION_TRANSITIONS


def test_every_life_of_a_job_is_one_that_the_domain_allows(database_url: str) -> None:
    async def watch() -> None:
        async with sql(database_url) as session:
            await session.execute(WATCH)

    opened = open_stores(database_url)
    with asyncio.Runner() as runner:
        runner.run(watch())
        Lives.url, Lives.loop = database_url, runner.get_loop()
        Lives.stores = runner.run(opened.__aenter__())
        try:
            run_state_machine_as_test(
                Lives,
                settings=settings(
                    max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
