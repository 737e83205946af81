"""What clients and operators do: submit, cancel, redrive; and what retention deletes."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatchd.application.gateway.messages import Outcome
from dispatchd.application.gateway.reports import Reported
from dispatchd.domain.errors import IdempotencyConflict, NotDeadLettered, RegionReadOnly
from dispatchd.domain.ids import format_job_id
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Canceled, Succeeded
from dispatchd.domain.submission import NO_TRACE, Submission
from dispatchd.domain.views import JobView
from lifecycle.acts import gathered, holder_of
from lifecycle.machine import CAPABILITIES, WHICH, pick
from lifecycle.model import AT_ONCE
from lifecycle.supplies import Supplies
from stores import from_now, new_job

T = TypeVar("T")

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICIES = st.builds(
    lambda attempts, backoffs: RetryPolicy(attempts, *backoffs),
    st.integers(1, 4),
    st.sampled_from([(AT_ONCE, AT_ONCE), (HOUR, HOUR), (HOUR, 1.5 * HOUR), (HOUR, DAY)]),
)
SUBMISSIONS = st.builds(
    Submission,
    job_type=st.sampled_from([f"{each}.send" for each in CAPABILITIES]),
    payload=st.just(b"{}"),
    priority=st.sampled_from([0, 0, 0, 5]),
    policy=POLICIES,
    timeout=st.sampled_from([None, None, HOUR]),
)
RUN_AT = st.sampled_from([None, None, None, HOUR, -HOUR])


class JobSteps(Supplies):
    """Rules."""

    @rule(submission=SUBMISSIONS, run_at=RUN_AT, has_key=st.booleans(), has_epoch=st.booleans())
    def submit(self, submission: Submission, run_at: timedelta | None, has_key: bool, has_epoch: bool) -> None:
        submission = replace(submission, run_at=None if run_at is None else from_now() + run_at)
        wanted = self.with_key(submission) if has_key else submission
        for process in self.in_turn(has_epoch):
            view = self.permitted(process.submit.submit(wanted), self.takes_work(process))
            if view is not None:
                assert view.status is JobStatus.PENDING
                self.stored(view.job_id, wanted)

    @rule(submissions=st.lists(SUBMISSIONS, min_size=1, max_size=4))
    def submit_many(self, submissions: list[Submission]) -> None:
        """In one call."""
        self.work_goes_on()
        views = self.do(self.primary.submit.submit_many([(each, NO_TRACE) for each in submissions]))
        for view, submission in zip(views, submissions, strict=True):
            assert isinstance(view, JobView)
            self.stored(view.job_id, submission)

    @rule(which=WHICH, is_same=st.booleans(), has_epoch=st.booleans())
    def submit_with_a_key_that_is_used(self, which: int, is_same: bool, has_epoch: bool) -> None:
        """The same request gets the first job, whatever has become of it; another one is refused."""
        if not any(job.key for job in self.model.jobs.values()):
            self.submit_something()
        first = pick([job for job in self.model.jobs.values() if job.key], which)
        assert first is not None
        wanted = self.requests[first.job_id]
        if not is_same:
            wanted = replace(wanted, payload=b"another")
        for process in self.in_turn(has_epoch):
            if not self.takes_work(process):
                with pytest.raises(RegionReadOnly):
                    self.do(process.submit.submit(wanted))
            elif is_same:
                view = self.do(process.submit.submit(wanted))
                assert (view.job_id, view.status) == (first.job_id, first.status)
            else:
                with pytest.raises(IdempotencyConflict, match=format_job_id(first.job_id)):
                    self.do(process.submit.submit(wanted))

    @rule(submission=SUBMISSIONS, copies=st.integers(2, 4), in_one_call=st.booleans())
    def submit_one_key_at_once(self, submission: Submission, copies: int, in_one_call: bool) -> None:
        """From several clients, or several times in one call: one job."""
        self.work_goes_on()
        process, wanted = self.primary, self.with_key(submission)
        if in_one_call:
            views = self.do(process.submit.submit_many([(wanted, NO_TRACE)] * copies))
        else:
            views = self.do(gathered(process.submit.submit(wanted) for _ in range(copies)))
        [job_id] = {view.job_id for view in views if isinstance(view, JobView)}
        assert len(views) == copies
        self.stored(job_id, wanted)

    @rule(submission=SUBMISSIONS, has_epoch=st.booleans())
    def submit_again_because_the_commit_was_unclear(self, submission: Submission, has_epoch: bool) -> None:
        """The ids were made before the first try, so the second one finds what the first has stored."""
        new = new_job(submission.job_type, priority=submission.priority, policy=submission.policy)
        processes = self.in_turn(has_epoch)
        for process in [*processes, processes[-1]]:
            stored = self.permitted(self.stores.jobs.insert([new], process.fence), self.takes_work(process))
            if stored is not None:
                assert [each.view.job_id for each in stored if each] == [new.job_id]
        if self.takes_work(processes[-1]):
            self.stored(new.job_id, new.submission)

    @rule(which=WHICH, has_epoch=st.booleans())
    def cancel(self, which: int, has_epoch: bool) -> None:
        """Ends a waiting or running job; one that has ended is answered as it is."""
        job = self.some_job(which)
        for process in self.in_turn(has_epoch):
            if job.state is not JobState.ACTIVE and process.watch.may_change:
                # Also by a process that has not heard yet that its region is passive, for nothing is written.
                assert self.do(process.cancel.cancel(job.job_id)).status is job.status
            elif self.permitted(process.cancel.cancel(job.job_id), self.may_change(process)) is not None:
                job.end(Canceled())

    @rule(which=WHICH)
    def cancel_while_its_success_is_reported(self, which: int) -> None:
        """Either comes first."""
        execution, process = self.some_live(which), self.primary
        session, ending = holder_of(execution), Succeeded(b"in time")
        reported = Reported(execution.known_id, session.session_id, session.reporter, ending)

        async def race() -> tuple[JobView, Outcome]:
            return await asyncio.gather(
                process.cancel.cancel(execution.job.job_id), process.reports.commits.put(reported, 1)
            )

        _, outcome = self.do(race())
        execution.job.end(ending if outcome is Outcome.ACCEPTED else Canceled())

    @rule(which=WHICH, is_dead=st.sampled_from([True, True, False]), has_epoch=st.booleans())
    def redrive(self, which: int, is_dead: bool, has_epoch: bool) -> None:
        """A dead letter gets new budgets; what is none stays as it is."""
        job = self.some_dead(which) if is_dead else self.some_job(which)
        for process in self.in_turn(has_epoch):
            self.redriven(process, job)

    @rule(which=WHICH)
    def redrive_twice_at_once(self, which: int) -> None:
        """One of the two does it."""
        dead = self.some_dead(which)
        self.work_goes_on()
        process = self.primary
        text = format_job_id(dead.job_id)
        answers = self.do(gathered(process.operate.redrive([text]) for _ in range(2)))
        refused = [answer for [answer] in answers if isinstance(answer, NotDeadLettered)]
        assert len(refused) == 1
        self.model.redrive(dead)

    @rule(of=st.sampled_from(["jobs", "dead letters", "sessions"]), has_epoch=st.booleans())
    def retention(self, of: str, has_epoch: bool) -> None:
        """What has ended goes, a job with its key."""
        for process in self.in_turn(has_epoch):
            self.forgotten(process, of)
