"""What several rules do, each with the real process and with the model."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from dispatchd.application.gateway.messages import Outcome as Answer
from dispatchd.application.gateway.reports import Reported
from dispatchd.application.ports import (
    ClaimedExecution,
    DecideOmitted,
    Decision,
    LockedExecution,
    NewSession,
    Offer,
    OpenedSession,
    ReadyEntry,
    Renewal,
)
from dispatchd.application.region_switch import Outcome
from dispatchd.application.scheduler.lease_reaper import judge
from dispatchd.domain.errors import DispatchdError, NotDeadLettered
from dispatchd.domain.execution import ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, format_job_id
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.region import RegionMode
from dispatchd.domain.settlement import Ending, Failed, LeaseLost, Returned, Succeeded, TimedOut
from dispatchd.domain.submission import Submission
from dispatchd.domain.worker import Registration, WorkerStatus
from lifecycle.machine import LEASE, Machine
from lifecycle.model import AT_ONCE, Execution, Job, Session
from lifecycle.processes import EXTRA_DELIVERIES, Process, region_switch
from stores import LONGEST, from_now

T = TypeVar("T")

SUCCESS = Succeeded(b"1", {"took": "1 s"})
FAILURE = Failed("no", "ValueError")
RETURNED = Returned(was_sent=True)
HOPELESS = Failed("never", do_not_retry=True)
MANY = 1_000
_LEASE_OVER = "update worker_sessions set lease_expires_at = now() - interval '1 second' where session_id = $1"
_DUE = """
update executions set due_at = now() - interval '1 second' where execution_id = any($1::uuid[])
returning execution_id, due_at
"""


class Acts(Machine):
    """Parts of rules."""

    # --- jobs -----------------------------------------------------------------------------------------------------

    def redriven(self, process: Process, job: Job) -> None:
        """What is no dead letter stays as it is."""
        text = format_job_id(job.job_id)
        if job.state is not JobState.FAILED and process.watch.takes_work:
            [answer] = self.do(process.operate.redrive([text]))
            assert isinstance(answer, NotDeadLettered)
            return
        answers = self.permitted(process.operate.redrive([text]), self.takes_work(process))
        if answers is not None:
            [answer] = answers
            assert not isinstance(answer, DispatchdError)
            assert (answer.job_id, answer.status) == (job.job_id, JobStatus.PENDING)
            self.model.redrive(job)

    def forgotten(self, process: Process, of: str) -> None:
        """By retention, as if everything had ended long ago."""
        may, recovery = self.may_change(process), self.stores.recovery
        if of == "sessions":
            deleted = self.do(recovery.delete_sessions_and_workers(AT_ONCE, MANY, process.fence))
            assert deleted == (self.model.forget_sessions() if may else 0)
            return
        states = [JobState.FAILED] if of == "dead letters" else [JobState.SUCCEEDED, JobState.CANCELED]
        gone = self.model.in_state(*states) if may else []
        assert self.do(recovery.delete_finished(states, AT_ONCE, MANY, process.fence)) == len(gone)
        for job in gone:
            del self.model.jobs[job.job_id]

    def with_key(self, submission: Submission) -> Submission:
        self.submissions += 1
        return replace(submission, idempotency_key=f"key-{self.submissions}")

    def stored(self, job_id: JobId, submission: Submission) -> None:
        self.requests[job_id] = submission
        self.model.submitted(
            Job(
                job_id,
                submission.capability,
                submission.priority,
                submission.idempotency_key,
                submission.policy,
                submission.policy.max_attempts + EXTRA_DELIVERIES,
                submission.run_at,
                submission.timeout,
            ),
            from_now(),
        )

    # --- workers --------------------------------------------------------------------------------------------------

    def register(self, new: Session, *, resumes: bool, keeps: Sequence[Execution], has_epoch: bool) -> None:
        """Opens a session, in the database and in the model."""
        reporter = new.reporter
        registration = Registration(
            reporter.worker_id,
            new.capabilities,
            1_000,
            resumes=resumes,
            process_id=new.process_id,
            held=tuple(ids_of(keeps)),
        )
        session = NewSession(new.session_id, registration, reporter.principal, "gateway-1", "peer", LEASE)
        for process in self.in_turn(has_epoch):
            opened: OpenedSession | None = self.permitted(
                self.stores.sessions.open(session, _omitted(process), process.fence), self.may_change(process)
            )
        assert opened is not None
        earlier = self.model.open_sessions(reporter.worker_id)
        stays = [] if resumes else self.model.held_by(earlier)
        displaced = {each.session_id for each in earlier if not each.is_superseded}
        moved = self.model.register(new, resumes=resumes, keeps=keeps)
        assert opened.resumed.keys() == ids_of(moved)
        assert opened.earlier.keys() == ids_of(stays)
        assert {each.session_id for each in opened.displaced} == displaced

    def renewed(
        self, process: Process, sessions: Sequence[Session], mine: Session, noticed: Sequence[Execution]
    ) -> None:
        """Renews sessions, one of them with notices of what its worker says to have begun."""
        notices = {execution.known_id: timedelta(milliseconds=1) for execution in noticed}
        renewals = [
            Renewal(each.session_id, each.reporter.worker_id, WorkerStatus.READY, notices if each is mine else {})
            for each in sessions
        ]
        outcome = self.permitted(self.stores.sessions.renew(renewals, LEASE, process.fence), self.may_change(process))
        if outcome is None:
            return
        assert outcome.renewed == {each.session_id for each in sessions if each.takes_work}
        assert outcome.superseded == {each.session_id for each in sessions if each.is_superseded}
        assert outcome.noticed == notices.keys()
        for session in sessions:
            session.is_over = session.is_over and not session.takes_work
        for execution in noticed:
            if execution.session is mine:
                execution.state = ExecutionState.RUNNING
        assert outcome.held == {each.session_id: ids_of(self.model.held_by([each])) for each in sessions}
        earlier = {}
        for worker_id in {each.reporter.worker_id for each in sessions}:
            displaced = [each for each in self.model.open_sessions(worker_id) if each.is_superseded]
            earlier[worker_id] = ids_of(self.model.held_by(displaced))
        assert outcome.earlier == {worker_id: held for worker_id, held in earlier.items() if held}

    async def claim_best(self, process: Process, session: Session, most: int) -> list[ClaimedExecution]:
        def choose(entries: Sequence[ReadyEntry]) -> list[Offer]:
            best = sorted(entries, key=lambda each: (-each.priority, each.due_at, each.execution_id))[:most]
            return [Offer(each, session.session_id) for each in best]

        return await self.stores.claims.claim_best(session.capabilities, most, choose, LONGEST, 65_536, process.fence)

    def claimed(self, session: Session, claimed: Sequence[ClaimedExecution], expected: Sequence[Execution]) -> None:
        """Compares with what had to be claimed, in that order."""
        assert [(each.execution_id, each.job_id, each.attempt, each.session_id) for each in claimed] == [
            (each.known_id, each.job.job_id, each.attempt, session.session_id) for each in expected
        ]
        for each, execution in zip(claimed, expected, strict=True):
            assert each.deadline_at - each.claimed_at == (execution.job.timeout or LONGEST)
            assert (each.due_at, each.payload) == (execution.due_at, self.requests[execution.job.job_id].payload)
            self.model.claim(execution, session)

    def reported(self, process: Process, execution: Execution, session: Session, ending: Ending) -> None:
        """Reports through a session, and compares the answer; without permission nothing that writes is accepted."""
        expected = self.model.answer(execution, session.reporter, ending)
        has_effect = expected is Answer.ACCEPTED and execution.state.is_live
        report = Reported(execution.known_id, session.session_id, session.reporter, ending)
        outcome = self.permitted(process.reports.commits.put(report, 1), self.may_change(process) or not has_effect)
        if outcome is not None:
            assert outcome is expected
            if has_effect:
                execution.job.end(ending)

    # --- the scheduler and the region row -------------------------------------------------------------------------

    def switch_to(self, to: str, *, everybody: bool) -> None:
        region = self.model.region
        switched = self.do(region_switch(self.stores).set_primary(to, region.epoch))
        assert switched.outcome is Outcome.CHANGED
        region.primary, region.epoch, region.mode = to, region.epoch + 1, RegionMode.ACTIVE
        self.learn_region(everybody=everybody)

    def reap(self, process: Process, *, dies_in_between: bool) -> None:
        """What one tick of the lease reaper does."""
        recovery, may = self.stores.recovery, self.may_change(process)
        over = [each for each in self.model.open_sessions() if each.is_over and may]
        ended = self.do(recovery.end_expired_sessions(MANY, process.fence))
        assert dict(ended) == {each.session_id: each.reporter.worker_id for each in over}
        for session in over:
            session.has_ended = True
        found = self.do(recovery.executions_to_recover(MANY))
        lost = [each for each in self.model.live if each.is_lost]
        assert found == sorted(each.known_id for each in lost)
        if dies_in_between:
            return
        count = self.permitted(process.settler.settle(found, judge), may or not found)
        if count is not None:
            assert count == len(lost)
            for each in lost:
                is_over = each.session is None or each.session.has_ended
                each.job.end(LeaseLost("") if is_over else TimedOut(""))

    def come_due(self, some: Sequence[Execution], *, has_epoch: bool = False) -> None:
        """Lets the time of some that wait come, and schedulers look."""
        for row in self.sql(_DUE, [each.known_id for each in some]):
            [execution] = [each for each in some if each.execution_id == row["execution_id"]]
            execution.due_at, execution.is_due = row["due_at"], True
        for process in self.in_turn(has_epoch):
            due = [each for each in self.model.waiting if each.is_due and self.may_change(process)]
            queued = self.do(self.stores.recovery.queue_due(MANY, process.fence))
            assert sorted(queued, key=_by_id) == sorted([entry(each) for each in due], key=_by_id)
            for execution in due:
                execution.state = ExecutionState.QUEUED

    def lease_runs_out(self, session: Session) -> None:
        self.sql(_LEASE_OVER, session.session_id)
        session.is_over = True


def _omitted(process: Process) -> DecideOmitted:
    """What a gateway decides about executions that a worker comes back without."""

    def decide(omitted: Sequence[LockedExecution], is_same: bool) -> list[Decision]:
        ending = Returned(was_sent=True) if is_same else LeaseLost("another process")
        return [process.settler.decision(execution, ending) for execution in omitted]

    return decide


def holder_of(execution: Execution) -> Session:
    """Who was given it."""
    assert execution.session is not None
    return execution.session


def entry(execution: Execution) -> ReadyEntry:
    """As a hint in Redis has it."""
    assert execution.due_at is not None
    return ReadyEntry(execution.known_id, execution.job.capability, execution.job.priority, execution.due_at)


def ids_of(executions: Sequence[Execution]) -> frozenset[ExecutionId]:
    return frozenset(execution.known_id for execution in executions)


def _by_id(each: ReadyEntry) -> ExecutionId:
    return each.execution_id


async def gathered(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once."""
    return await asyncio.gather(*calls)
