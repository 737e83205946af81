"""How rules come by something to do something with: what is not there is made first."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from dispatchd.application.ports import Reporter
from dispatchd.domain.job import JobState
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.submission import Submission
from lifecycle.acts import HOPELESS, SUCCESS, Acts, holder_of
from lifecycle.machine import CAPABILITIES, pick
from lifecycle.model import AT_ONCE, Execution, Job, Session
from stores import from_now, ids

T = TypeVar("T")


HOUR = timedelta(hours=1)


class Supplies(Acts):
    """Parts of rules."""

    def some_job(self, which: int) -> Job:
        if not self.model.jobs:
            self.submit_something()
        return _picked(list(self.model.jobs.values()), which)

    def some_session(self, which: int) -> Session:
        """One that takes work."""
        if not any(each.takes_work for each in self.model.open_sessions()):
            return self.new_worker(CAPABILITIES)
        return _picked([each for each in self.model.open_sessions() if each.takes_work], which)

    def session_that(self, is_what: str, which: int) -> Session:
        """One that is `open`, `displaced` by a later one of its worker, `resumed` by that, or `lost`."""
        there = {
            "open": [],
            "displaced": [each for each in self.model.open_sessions() if each.is_superseded],
            "resumed": [each for each in self.model.sessions.values() if each.has_ended and each.is_superseded],
            "lost": [each for each in self.model.sessions.values() if each.has_ended and not each.is_superseded],
        }
        found = pick(there[is_what], which)
        if found is None:
            found = self.some_session(which)
            if is_what == "lost":
                self.lease_runs_out(found)
                self.reap(self.primary, dies_in_between=True)
            elif is_what != "open":
                self.come_back(found, resumes=is_what == "resumed")
        return found

    def session_of_another(self, than: Session) -> Session:
        """One of another worker that takes work."""
        others = [each for each in self.model.open_sessions() if each.takes_work]
        found = pick([each for each in others if each.reporter.worker_id != than.reporter.worker_id], 0)
        return found or self.new_worker(CAPABILITIES)

    def some_live(self, which: int) -> Execution:
        """An execution that a worker holds."""
        if not self.model.live:
            session = self.some_session(which)
            if not self.model.ready(session.capabilities):
                self.submit_something(session.capabilities[0])
            self.work_goes_on()
            claimed = self.do(self.claim_best(self.primary, session, 2))
            self.claimed(session, claimed, self.model.ready(session.capabilities)[:2])
        return _picked(self.model.live, which)

    def some_ended(self, which: int) -> Execution:
        """An execution that a worker held once."""
        if not any(each.session is not None and each.state.has_ended for each in self.model.executions):
            execution = self.some_live(which)
            self.reported(self.primary, execution, holder_of(execution), SUCCESS)
        ended = [each for each in self.model.executions if each.session is not None and each.state.has_ended]
        return _picked(ended, which)

    def some_dead(self, which: int) -> Job:
        """A dead letter."""
        if not self.model.in_state(JobState.FAILED):
            execution = self.some_live(which)
            self.reported(self.primary, execution, holder_of(execution), HOPELESS)
        return _picked(self.model.in_state(JobState.FAILED), which)

    def submit_something(self, capability: str = CAPABILITIES[0], *, run_at: timedelta | None = None) -> None:
        self.work_goes_on()
        policy = (RetryPolicy(4, HOUR, 1.5 * HOUR), RetryPolicy(3, AT_ONCE, AT_ONCE))[self.submissions % 2]
        wanted = Submission(f"{capability}.send", b"{}", policy=policy)
        if run_at is not None:
            wanted = replace(wanted, run_at=from_now() + run_at)
        wanted = self.with_key(wanted)
        self.stored(self.do(self.primary.submit.submit(wanted)).job_id, wanted)
        self.the_database_says_what_the_model_says()

    def work_goes_on(self) -> None:
        """A drain ends with a switch."""
        if not self.takes_work(self.primary):
            self.switch_to(self.other.region, everybody=False)

    def new_worker(self, capabilities: tuple[str, ...], *, has_epoch: bool = False) -> Session:
        self.workers += 1
        new = Session(ids.session_id(), Reporter(f"worker-{self.workers}", "ann"), "process 1", capabilities)
        self.register(new, resumes=False, keeps=[], has_epoch=has_epoch)
        return new

    def come_back(
        self,
        earlier: Session,
        *,
        resumes: bool,
        is_same_process: bool = True,
        is_same_principal: bool = True,
        kept: int = 7,
        has_epoch: bool = False,
    ) -> Session:
        """The same worker id again, with all or some of what it held."""
        worker_id = earlier.reporter.worker_id
        held = [execution for execution in self.model.live if execution.worker_id == worker_id]
        new = Session(
            ids.session_id(),
            earlier.reporter if is_same_principal else Reporter(worker_id, f"not {earlier.reporter.principal}"),
            earlier.process_id if is_same_process else f"{earlier.process_id}'",
            earlier.capabilities,
        )
        keeps = [execution for place, execution in enumerate(held) if kept & (1 << place % 3)]
        self.register(new, resumes=resumes, keeps=keeps, has_epoch=has_epoch)
        return new


def _picked(found: Sequence[T], which: int) -> T:
    one = pick(found, which)
    assert one is not None
    return one
