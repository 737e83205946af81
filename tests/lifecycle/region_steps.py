"""What time brings: leases and deadlines run out, retries become due, the primary region changes."""

from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatchd.application.region_switch import Deployment, Outcome, RegionSwitchRefused
from dispatchd.domain.job import JobState
from dispatchd.domain.region import RegionMode
from dispatchd.domain.submission import Submission
from lifecycle.acts import MANY, SUCCESS, holder_of
from lifecycle.machine import CAPABILITIES, REGIONS, WHICH, pick
from lifecycle.model import Execution, Job, Region
from lifecycle.processes import Process, region_switch
from lifecycle.supplies import Supplies

EMPTY = Submission(f"{CAPABILITIES[0]}.send", b"{}")
_OVERDUE = "update executions set deadline_at = now() - interval '1 second' where execution_id = $1"


class RegionSteps(Supplies):
    """Rules."""

    # --- the scheduler --------------------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        of=st.sampled_from(["a lease", "an attempt", "nothing"]),
        happens=st.sampled_from(["a look", "a look", "a look that is cut short", "nothing yet"]),
        has_epoch=st.booleans(),
    )
    def time_runs_out(self, which: int, of: str, happens: str, has_epoch: bool) -> None:
        """Nothing happens until a scheduler looks. Sessions end first; what they hold is found by its state, also by
        the next scheduler."""
        execution = self.some_live(which)
        if of == "a lease":
            self.lease_runs_out(pick(self.model.open_sessions(), which) or self.some_session(which))
        elif of == "an attempt":
            self.sql(_OVERDUE, execution.known_id)
            execution.is_overdue = True
        if happens != "nothing yet":
            for process in self.in_turn(has_epoch):
                self.reap(process, dies_in_between=happens != "a look")

    @rule(whichever=st.integers(0, 7), has_epoch=st.booleans())
    def retries_become_due(self, whichever: int, has_epoch: bool) -> None:
        """Some of what waits: it can be claimed once a scheduler of the primary region has looked."""
        if len(self.model.waiting) < 2:
            self.submit_something(run_at=timedelta(hours=2))
        some = [each for place, each in enumerate(self.model.waiting) if whichever & (1 << place % 3)]
        self.come_due(some, has_epoch=has_epoch)

    # --- the region row -------------------------------------------------------------------------------------------

    @rule(which=WHICH, everybody=st.booleans())
    def drain(self, which: int, everybody: bool) -> None:
        """No new work, but what runs comes to its end."""
        dead, live = self.something_to_try(which)
        region = self.model.region
        switched = self.do(region_switch(self.stores).drain(region.epoch))
        region.mode = RegionMode.DRAINING
        assert (switched.row.mode, switched.row.epoch) == (region.mode, region.epoch)
        self.learn_region(everybody=everybody)
        self.tries_everything(self.primary, dead, live, knows=everybody)

    @rule(which=WHICH, everybody=st.booleans())
    def give_up_the_drain(self, which: int, everybody: bool) -> None:
        """New work is taken again under the same epoch. Where nothing drains, nothing changes."""
        dead, live = self.something_to_try(which)
        region = self.model.region
        drained, region.mode = region.mode is RegionMode.DRAINING, RegionMode.ACTIVE
        switched = self.do(region_switch(self.stores).undo_drain(region.epoch))
        assert switched.outcome is (Outcome.CHANGED if drained else Outcome.UNCHANGED)
        assert (switched.row.primary_region, switched.row.epoch) == (region.primary, region.epoch)
        self.learn_region(everybody=everybody)
        self.tries_everything(self.primary, dead, live, knows=everybody)

    @rule(
        which=WHICH,
        to=st.sampled_from(REGIONS),
        everybody=st.booleans(),
        off_by=st.sampled_from([0, 0, 0, 0, -1, 1, 7]),
    )
    def switch(self, which: int, to: str, everybody: bool, off_by: int) -> None:
        """To any region, also the same one; who was the primary, or of the earlier epoch, tries to go on. Who expects
        another epoch changes nothing, unless an earlier run has brought it about already."""
        region = self.model.region
        if off_by == 0:
            dead, live = self.something_to_try(which)
            without, deployed, _ = self.processes[region.primary]
            self.switch_to(to, everybody=everybody)
            for process in (deployed, without):
                self.tries_everything(process, dead, live, knows=everybody)
        elif off_by == -1 and (region.primary, region.mode) == (to, RegionMode.ACTIVE):
            assert self.do(region_switch(self.stores).set_primary(to, region.epoch - 1)).outcome is Outcome.RESUMED
        else:
            with pytest.raises(RegionSwitchRefused):
                self.do(region_switch(self.stores).set_primary(to, region.epoch + off_by))

    @rule(of=st.sampled_from(REGIONS), has_epoch=st.booleans(), ahead=st.integers(0, 2))
    def deployment(self, of: str, has_epoch: bool, ahead: int) -> None:
        """Only that of the region that becomes the primary, with the next epoch, changes the row. Its process with a
        REGION_EPOCH starts with that one."""
        process, region = self.processes[of][has_epoch], self.model.region
        says = Deployment(process.region, process.region, region.epoch + ahead)
        if ahead == 1:
            assert self.do(region_switch(self.stores).apply(says)).outcome is Outcome.CHANGED
            self.model.region = Region(process.region, region.epoch + 1)
        elif ahead == 0 and process.region == region.primary:
            assert self.do(region_switch(self.stores).apply(says)).outcome is Outcome.UNCHANGED
        else:
            with pytest.raises(RegionSwitchRefused):
                self.do(region_switch(self.stores).apply(says))
            return
        if process.fence.epoch is not None:
            process.deploy(says.epoch)
        self.learn_region(everybody=True)

    def something_to_try(self, which: int) -> tuple[Job, Execution]:
        """A dead letter and a live execution; and there is something to claim."""
        dead, live = self.some_dead(which), self.some_live(which)
        self.submit_something()
        self.some_session(which)
        return dead, live

    def tries_everything(self, process: Process, dead: Job, live: Execution, *, knows: bool) -> None:
        """Each has its effect or is refused, as the row says, by a process that knows the row or not."""

        def forgets() -> None:
            if not knows:
                process.has_not_heard(self.primary.watch.row)

        session = self.some_session(0)
        claimed = self.do(self.claim_best(process, session, 1))
        self.claimed(session, claimed, self.model.ready(session.capabilities)[:1] if self.takes_work(process) else [])
        self.reported(process, live, holder_of(live), SUCCESS)
        forgets()
        self.redriven(process, dead)
        forgets()
        wanted = self.with_key(EMPTY)
        view = self.permitted(process.submit.submit(wanted), self.takes_work(process))
        if view is not None:
            self.stored(view.job_id, wanted)

    # --- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """However it stands: after a switch to the other region every job that is active comes to its end."""
        if not self.is_sound:
            return
        self.switch_to(self.other.region, everybody=False)
        process = self.primary
        active = self.model.in_state(JobState.ACTIVE)
        for session in self.model.open_sessions():
            self.lease_runs_out(session)
        self.reap(process, dies_in_between=False)
        self.the_database_says_what_the_model_says()
        self.come_due(self.model.waiting)
        worker = self.new_worker(CAPABILITIES)
        claimed = self.do(self.claim_best(process, worker, MANY))
        self.claimed(worker, claimed, self.model.ready(CAPABILITIES))
        for execution in self.model.live:
            self.reported(process, execution, worker, SUCCESS)
        self.the_database_says_what_the_model_says()
        assert all(job.state in (JobState.SUCCEEDED, JobState.FAILED) for job in active)
        assert not self.model.in_state(JobState.ACTIVE)
