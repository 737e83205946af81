"""A machine that does the same with the real processes and with the model, and compares after every step.

The numbers that a rule takes only choose among what there is, newest first: what Hypothesis draws never depends on
how a race went.
"""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from dispatchd.application.ports import NotPermitted
from dispatchd.domain.errors import RegionReadOnly
from dispatchd.domain.execution import EXECUTION_TRANSITIONS, ExecutionState
from dispatchd.domain.ids import JobId
from dispatchd.domain.job import JOB_TRANSITIONS, JobState
from dispatchd.domain.submission import Submission
from lifecycle.model import Execution, Job, Model
from lifecycle.processes import Process
from stores import Stores

T = TypeVar("T")

CAPABILITIES = ("email", "report")
REGIONS = ("east", "west")
LEASE = timedelta(hours=1)
"""Longer than any run, like every other time here: what ends by time is made to end."""
WHICH = st.integers(0, 15)
"""Chooses among what there is."""

WATCH = """
create table changes (of text, before text, after text);
create function note() returns trigger language plpgsql as $$
begin insert into changes values (tg_table_name, old.state, new.state); return null; end $$;
create trigger note after update on executions for each row when (old.state <> new.state) execute function note();
create trigger note after update on jobs for each row when (old.state <> new.state) execute function note();
"""
_EMPTY = "truncate jobs, job_inputs, executions, worker_sessions, workers, changes"
_REGION = "update region set primary_region = $1, epoch = $2, mode = 'active'"
_EXECUTIONS = """
select job_id, execution_id, attempt, delivery, attempts_before, counted_before, capability, priority, timeout_us,
    state, due_at, session_id, worker_id, end_reason, created_at, claimed_at, started_at, finished_at
from executions order by job_id, delivery
"""
_JOBS = "select job_id, state, coalesce(idempotency_key, '') as key, result, max_attempts from jobs"
_SESSIONS = """
select session_id, worker_id, principal, process_id, superseded_at is not null as is_superseded,
    ended_at is not null as has_ended, closed_at is not null as is_closed, lease_expires_at < now() as is_over
from worker_sessions
"""
_CHANGES = "select of, before, after, count(*) as times from changes group by of, before, after"


class Machine(RuleBasedStateMachine):
    """What the rules need, and what must be so after each of them."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    stores: ClassVar[Stores]
    processes: ClassVar[dict[str, list[Process]]]
    """Of each region three: one without REGION_EPOCH, one that is deployed anew from time to time, and one that never
    is."""
    session: ClassVar["asyncpg.Connection[asyncpg.Record]"]
    """The test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(REGIONS[0])
        self.requests: dict[JobId, Submission] = {}
        self.submissions = 0
        self.workers = 0
        self.compared: object = None
        self.is_sound = False

    # --- for the rules --------------------------------------------------------------------------------------------

    def do(self, work: Awaitable[T]) -> T:
        self.is_sound = False

        async def done() -> T:
            return await work

        return self.loop.run_until_complete(done())

    def sql(self, statement: str, *values: object) -> list[Any]:
        return self.do(self.session.fetch(statement, *values))

    @property
    def primary(self) -> Process:
        """Of the region that may change something, without a REGION_EPOCH."""
        return self.processes[self.model.region.primary][0]

    @property
    def other(self) -> Process:
        """The same of the other region."""
        [name] = [name for name in REGIONS if name != self.model.region.primary]
        return self.processes[name][0]

    def in_turn(self, has_epoch: bool) -> list[Process]:
        """Processes that try the same one after the other: one of the passive region and one of an old epoch, which
        must achieve nothing, whether they know it or not; then one that may, with a REGION_EPOCH or not."""
        _, deployed, old = self.processes[self.model.region.primary]
        if not has_epoch:
            for process in (self.other, old):
                process.has_not_heard(self.primary.watch.row)
        last = deployed if has_epoch and self.may_change(deployed) else self.primary
        return [self.other, old, last]

    def may_change(self, process: Process) -> bool:
        return self.model.region.may_change(process.fence)

    def takes_work(self, process: Process) -> bool:
        return self.model.region.takes_work(process.fence)

    def permitted(self, work: Awaitable[T], is_permitted: bool) -> T | None:
        """Does what the region row permits or not, and must be refused if it does not: then None."""
        refused = False
        found: T | None = None
        with suppress(NotPermitted, RegionReadOnly):
            refused = True
            found = self.do(work)
            refused = False
        assert refused is not is_permitted
        return found

    def learn_region(self, *, everybody: bool) -> None:
        """The row has changed: who gains by that looks at it. The others may not know it yet, and are to be refused
        all the same."""
        for process in itertools.chain(*self.processes.values()):
            gains = self.may_change(process) and not process.watch.may_change
            gains = gains or (self.takes_work(process) and not process.watch.takes_work)
            if everybody or gains:
                self.do(process.watch.look())

    # --- the beginning --------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.sql(_EMPTY)
        self.sql(_REGION, self.model.region.primary, self.model.region.epoch)
        for without, deployed, old in self.processes.values():
            without.deploy(None)
            deployed.deploy(self.model.region.epoch)
            old.deploy(self.model.region.epoch - 1)
        self.learn_region(everybody=True)

    # --- what must be so ------------------------------------------------------------------------------------------

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        executions = self.sql(_EXECUTIONS)
        rows: dict[JobId, list[Any]] = defaultdict(list)
        for row in executions:
            rows[row["job_id"]].append(row)
        assert rows.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            self._compare(job, rows[job_id])
            _check_budgets(job, rows[job_id])
        jobs, sessions, changes = self.sql(_JOBS), self.sql(_SESSIONS), self.sql(_CHANGES)
        assert {tuple(row) for row in jobs} == {
            (job.job_id, job.state, job.key, job.result, job.policy.max_attempts) for job in self.model.jobs.values()
        }
        assert {tuple(row) for row in sessions} == {
            (
                each.session_id,
                each.reporter.worker_id,
                each.reporter.principal,
                each.process_id,
                each.is_superseded,
                each.has_ended,
                each.is_closed,
                each.is_over,
            )
            for each in self.model.sessions.values()
        }
        self._check_changes(changes)
        facts = (executions, jobs)
        if facts != self.compared:
            # What is read follows from what is stored, and most steps change nothing.
            self._compare_reads()
            self.compared = facts
        self.is_sound = True

    def _compare(self, job: Job, rows: Sequence[Any]) -> None:
        """Each execution as it must be. What is seen for the first time is learned, and its due time checked."""
        assert len(rows) == len(job.executions)
        before: Execution | None = None
        for execution, row in zip(job.executions, rows, strict=True):
            if execution.execution_id is None:
                execution.execution_id = row["execution_id"]
            if execution.due_at is None:
                execution.due_at = _due(execution, before, row)
            session = execution.session
            assert (
                row["execution_id"],
                row["attempt"],
                row["delivery"],
                row["attempts_before"],
                row["counted_before"],
                row["capability"],
                row["priority"],
                row["state"],
                row["due_at"],
                row["session_id"],
                row["worker_id"],
                row["end_reason"],
            ) == (
                execution.execution_id,
                execution.attempt,
                execution.delivery,
                execution.attempts_before,
                execution.counted_before,
                job.capability,
                job.priority,
                execution.state,
                execution.due_at,
                None if session is None else session.session_id,
                execution.worker_id,
                execution.end_reason,
            )
            assert (row["timeout_us"] is None) == (job.timeout is None)
            times = [row[name] for name in ("created_at", "claimed_at", "started_at", "finished_at") if row[name]]
            assert times == sorted(times)
            before = execution

    def _check_changes(self, changes: Sequence[Any]) -> None:
        """Every change stands in the tables of transitions, and nothing that has ended lives again but by redrive."""
        found = Counter({(row["of"], row["before"], row["after"]): row["times"] for row in changes})
        for of, before, after in found:
            if of == "jobs":
                assert (JobState(before), JobState(after)) in JOB_TRANSITIONS
            else:
                assert (ExecutionState(before), ExecutionState(after)) in EXECUTION_TRANSITIONS
        assert found["jobs", "failed", "active"] == self.model.redriven

    def _compare_reads(self) -> None:
        """What clients and operators read, also in a passive region."""
        views = self.do(self.stores.jobs.summaries(list(self.model.jobs)))
        assert {job_id: (view.status, view.attempts) for job_id, view in views.items()} == {
            job.job_id: (job.status, job.attempts) for job in self.model.jobs.values()
        }
        operate = self.other.operate
        dead = self.do(operate.dead_letters("", 1_000, "")).items
        assert {view.job_id for view in dead} == {job.job_id for job in self.model.in_state(JobState.FAILED)}
        queues = {each.capability: (each.depth, each.delayed) for each in self.do(operate.queues())}
        open_now = Counter((each.job.capability, each.state) for each in self.model.executions)
        expected = {
            each: (open_now[each, ExecutionState.QUEUED], open_now[each, ExecutionState.WAITING])
            for each in CAPABILITIES
        }
        assert queues == {each: counts for each, counts in expected.items() if any(counts)}


def pick(found: Sequence[T], which: int) -> T | None:
    """One of what there is, the last for 0; None if there is nothing."""
    return found[-1 - which % len(found)] if found else None


def _due(execution: Execution, before: Execution | None, row: Any) -> datetime:
    """When it had to be due."""
    if execution.wait is None:
        assert before is not None
        assert before.due_at is not None
        return before.due_at
    made: datetime = row["created_at"]
    if before is None and execution.job.run_at is not None:
        return max(execution.job.run_at, made)
    return made + execution.wait


def _check_budgets(job: Job, rows: Sequence[Any]) -> None:
    """Attempts have a bound, at most one execution is live, and at most one succeeds."""
    assert rows[-1]["attempt"] <= job.policy.max_attempts * (1 + job.redrives)
    assert sum(row["finished_at"] is None for row in rows) == (1 if job.state is JobState.ACTIVE else 0)
    assert sum(row["state"] == "succeeded" for row in rows) == (1 if job.state is JobState.SUCCEEDED else 0)
