"""What must come of every step: jobs, executions, sessions and the region row as plain objects.

The rules of the contract are written down here once more and in other words than in `dispatchd.domain`, so that a
mistake there is not made on both sides. What only the database can know (ids of later executions, times) is learned
from it once, and must stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatchd.application.gateway.messages import Outcome
from dispatchd.application.ports import Reporter
from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.region import RegionFence, RegionMode
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Canceled, Ending, Failed, LeaseLost, Returned, Succeeded, TimedOut

AT_ONCE = timedelta(0)


@dataclass(eq=False)
class Session:
    """A session; `is_over` says that its lease has run out, which changes nothing until somebody looks."""

    session_id: SessionId
    reporter: Reporter
    process_id: str
    capabilities: tuple[str, ...]
    is_superseded: bool = False
    has_ended: bool = False
    is_closed: bool = False
    is_over: bool = False

    @property
    def takes_work(self) -> bool:
        return not self.is_superseded and not self.has_ended


@dataclass(eq=False)
class Execution:
    """A delivery. It is due `wait` after it was made, or (None) at the place of the one before it."""

    job: "Job"
    attempt: int
    delivery: int
    state: ExecutionState
    wait: timedelta | None
    attempts_before: int
    counted_before: int
    session: Session | None = None
    worker_id: str | None = None
    end_reason: EndReason | None = None
    is_due: bool = False
    """While it waits: its time has come, and no scheduler has looked yet."""
    is_overdue: bool = False
    execution_id: ExecutionId | None = None
    due_at: datetime | None = None

    @property
    def known_id(self) -> ExecutionId:
        assert self.execution_id is not None
        return self.execution_id

    @property
    def place(self) -> tuple[int, datetime, ExecutionId]:
        """In the ready queue."""
        assert self.due_at is not None
        return -self.job.priority, self.due_at, self.known_id

    @property
    def is_lost(self) -> bool:
        """Whether the scheduler has to end it."""
        return self.state.is_live and (self.is_overdue or self.session is None or self.session.has_ended)


@dataclass(eq=False)
class Job:
    """A job with all its executions; the budgets of attempts and deliveries begin anew with a redrive."""

    job_id: JobId
    capability: str
    priority: int
    key: str
    policy: RetryPolicy
    most_deliveries: int
    run_at: datetime | None
    timeout: timedelta | None
    state: JobState = JobState.ACTIVE
    result: bytes | None = None
    redrives: int = 0
    attempts_used: int = 0
    deliveries_used: int = 0
    executions: list[Execution] = field(default_factory=list)

    @property
    def newest(self) -> Execution:
        return self.executions[-1]

    @property
    def status(self) -> JobStatus:
        if self.state is not JobState.ACTIVE:
            return JobStatus(self.state.value)
        shown = {ExecutionState.CLAIMED: JobStatus.DISPATCHING, ExecutionState.RUNNING: JobStatus.RUNNING}
        return shown.get(self.newest.state, JobStatus.PENDING)

    @property
    def attempts(self) -> int:
        """As clients see it: those that a worker was given."""
        return self.newest.attempt if self.newest.session is not None else self.newest.attempt - 1

    def deliver(self, attempt: int, wait: timedelta | None, *, is_waiting: bool) -> None:
        """One more execution."""
        state = ExecutionState.WAITING if is_waiting else ExecutionState.QUEUED
        before = attempt - 1 - self.attempts_used
        self.executions.append(
            Execution(self, attempt, len(self.executions) + 1, state, wait, before, self.deliveries_used)
        )

    def redrive(self) -> None:
        self.state, self.redrives = JobState.ACTIVE, self.redrives + 1
        self.attempts_used = self.deliveries_used = 0
        self.deliver(self.newest.attempt + 1, AT_ONCE, is_waiting=False)

    def end(self, ending: Ending) -> None:
        """Ends the newest execution, and what follows from that."""
        now = self.newest
        match ending:
            case Succeeded():
                self._over(ExecutionState.SUCCEEDED, EndReason.SUCCEEDED, JobState.SUCCEEDED)
                self.result = ending.result
            case Canceled():
                self._over(ExecutionState.FAILED, EndReason.CANCELED, JobState.CANCELED)
            case Returned():
                self.deliveries_used += ending.was_sent
                if self.deliveries_used >= self.most_deliveries:
                    self._over(ExecutionState.DEAD_LETTERED, EndReason.RETURNED, JobState.FAILED)
                else:
                    self._over(ExecutionState.FAILED, EndReason.RETURNED)
                    self.deliver(now.attempt, None, is_waiting=False)
            case Failed() | LeaseLost() | TimedOut():
                self._unsuccessful(ending)

    def _unsuccessful(self, ending: Failed | LeaseLost | TimedOut) -> None:
        reason = {Failed: EndReason.FAILED, LeaseLost: EndReason.LEASE_LOST, TimedOut: EndReason.TIMED_OUT}[
            type(ending)
        ]
        attempt = self.newest.attempt
        self.attempts_used += 1
        self.deliveries_used += 1
        is_used_up = self.attempts_used == self.policy.max_attempts or self.deliveries_used >= self.most_deliveries
        if is_used_up or (isinstance(ending, Failed) and ending.do_not_retry):
            self._over(ExecutionState.DEAD_LETTERED, reason, JobState.FAILED)
            return
        wait = ending.retry_after if isinstance(ending, Failed) else None
        if wait is None:
            wait = self.policy.initial_backoff
            for _ in range(self.attempts_used - 1):
                wait *= 2
            wait = min(wait, self.policy.max_backoff)
        self._over(ExecutionState.FAILED, reason)
        self.deliver(attempt + 1, wait, is_waiting=wait > AT_ONCE)

    def _over(self, state: ExecutionState, reason: EndReason, job_state: JobState | None = None) -> None:
        self.newest.state, self.newest.end_reason = state, reason
        if job_state is not None:
            self.state = job_state


@dataclass
class Region:
    """The row that decides who may change anything."""

    primary: str = ""
    epoch: int = 2
    mode: RegionMode = RegionMode.ACTIVE

    def may_change(self, fence: RegionFence) -> bool:
        return fence.region == self.primary and fence.epoch in (None, self.epoch)

    def takes_work(self, fence: RegionFence) -> bool:
        return self.may_change(fence) and self.mode is RegionMode.ACTIVE


class Model:
    """Everything that an installation should know."""

    def __init__(self, primary: str) -> None:
        self.region = Region(primary)
        self.jobs: dict[JobId, Job] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.newest_session: dict[str, Session] = {}
        """By worker id: the registry."""
        self.redriven = 0

    # --- jobs -----------------------------------------------------------------------------------------------------

    def submitted(self, job: Job, now: datetime) -> None:
        self.jobs[job.job_id] = job
        job.deliver(1, AT_ONCE, is_waiting=job.run_at is not None and job.run_at > now)

    def by_key(self, key: str) -> Job | None:
        return next((job for job in self.jobs.values() if key and job.key == key), None)

    def in_state(self, *states: JobState) -> list[Job]:
        return [job for job in self.jobs.values() if job.state in states]

    def redrive(self, job: Job) -> None:
        job.redrive()
        self.redriven += 1

    # --- executions -----------------------------------------------------------------------------------------------

    @property
    def executions(self) -> list[Execution]:
        return [execution for job in self.jobs.values() for execution in job.executions]

    @property
    def live(self) -> list[Execution]:
        return [execution for execution in self.executions if execution.state.is_live]

    @property
    def waiting(self) -> list[Execution]:
        return [execution for execution in self.executions if execution.state is ExecutionState.WAITING]

    def held_by(self, sessions: Iterable[Session]) -> list[Execution]:
        wanted = list(sessions)
        return [execution for execution in self.live if execution.session in wanted]

    def ready(self, capabilities: Iterable[str]) -> list[Execution]:
        """What can be claimed, in the order in which it has to be."""
        wanted = set(capabilities)
        queued = [e for e in self.executions if e.state is ExecutionState.QUEUED and e.job.capability in wanted]
        return sorted(queued, key=lambda execution: execution.place)

    def claim(self, execution: Execution, session: Session) -> None:
        execution.state = ExecutionState.CLAIMED
        execution.session, execution.worker_id = session, session.reporter.worker_id

    def answer(self, execution: Execution, reporter: Reporter, ending: Ending) -> Outcome:
        """What a report is answered, before it has any effect: it has one if the execution is live and ACCEPTED."""
        holder = execution.session
        if holder is None:
            return Outcome.UNKNOWN
        if holder.session_id not in self.sessions:
            return Outcome.STALE if execution.worker_id == reporter.worker_id else Outcome.UNKNOWN
        if holder.reporter != reporter:
            return Outcome.UNKNOWN
        said = {Succeeded: EndReason.SUCCEEDED, Failed: EndReason.FAILED, Returned: EndReason.RETURNED}[type(ending)]
        return Outcome.ACCEPTED if execution.state.is_live or execution.end_reason is said else Outcome.STALE

    # --- sessions -------------------------------------------------------------------------------------------------

    def open_sessions(self, worker_id: str | None = None) -> list[Session]:
        """Those that have not ended, by id."""
        found = [
            session
            for session in self.sessions.values()
            if not session.has_ended and worker_id in (None, session.reporter.worker_id)
        ]
        return sorted(found, key=lambda session: session.session_id)

    def register(self, new: Session, *, resumes: bool, keeps: Iterable[Execution]) -> list[Execution]:
        """A worker comes, or comes back with what it keeps; returns what moved to the new session."""
        earlier = self.open_sessions(new.reporter.worker_id)
        held, kept = self.held_by(earlier), list(keeps)
        moved: list[Execution] = []
        if resumes:
            is_same = any(new.process_id == each.process_id for each in earlier if not each.is_superseded)
            for execution in held:
                if execution not in kept:
                    execution.job.end(Returned(was_sent=True) if is_same else LeaseLost(""))
                elif execution.session is not None and execution.session.reporter == new.reporter:
                    execution.session = new
                    moved.append(execution)
        for each in earlier:
            each.is_superseded = True
            each.has_ended = resumes
        self.sessions[new.session_id] = self.newest_session[new.reporter.worker_id] = new
        return moved

    def forget_sessions(self) -> int:
        """What retention does with sessions and workers; returns how many rows went."""
        unseen = [worker_id for worker_id, session in self.newest_session.items() if session.has_ended]
        for worker_id in unseen:
            del self.newest_session[worker_id]
        gone = [
            session
            for session in self.sessions.values()
            if session.has_ended and not self.held_by([session]) and session not in self.newest_session.values()
        ]
        for session in gone:
            del self.sessions[session.session_id]
        return len(unseen) + len(gone)
