"""What gateways do for workers: sessions, claims, renewals, results and give-backs."""

import asyncio
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from dispatchd.application.gateway.messages import Outcome
from dispatchd.application.gateway.reports import Reported
from dispatchd.application.ports import (
    ClaimedExecution,
    LockedExecution,
    Offer,
)
from dispatchd.domain.execution import ExecutionState
from dispatchd.domain.settlement import Ending, Failed, Returned
from lifecycle.acts import FAILURE, RETURNED, SUCCESS, entry, holder_of
from lifecycle.machine import CAPABILITIES, WHICH, pick
from lifecycle.model import AT_ONCE
from lifecycle.supplies import Supplies
from stores import LONGEST

ENDINGS = st.sampled_from(
    [
        SUCCESS,
        SUCCESS,
        SUCCESS,
        FAILURE,
        FAILURE,
        Failed("never", do_not_retry=True),
        Failed("soon", retry_after=AT_ONCE),
        Failed("later", retry_after=timedelta(hours=3)),
        RETURNED,
        RETURNED,
    ]
)
KINDS = st.sampled_from([CAPABILITIES, CAPABILITIES, CAPABILITIES[:1], CAPABILITIES[1:]])


IS_WHAT = st.sampled_from(["open", "open", "open", "displaced", "resumed", "lost"])


class WorkerSteps(Supplies):
    """Rules."""

    # --- sessions -------------------------------------------------------------------------------------------------

    @rule(capabilities=KINDS, has_epoch=st.booleans())
    def worker_comes(self, capabilities: tuple[str, ...], has_epoch: bool) -> None:
        self.new_worker(capabilities, has_epoch=has_epoch)

    @rule(
        which=WHICH,
        is_same_process=st.booleans(),
        is_same_principal=st.booleans(),
        resumes=st.booleans(),
        kept=st.integers(0, 7),
        has_epoch=st.booleans(),
    )
    def worker_comes_back(
        self, which: int, is_same_process: bool, is_same_principal: bool, resumes: bool, kept: int, has_epoch: bool
    ) -> None:
        """Somebody else's principal resumes nothing."""
        self.come_back(
            holder_of(self.some_live(which)),
            resumes=resumes,
            is_same_process=is_same_process,
            is_same_principal=is_same_principal,
            kept=kept,
            has_epoch=has_epoch,
        )

    @rule(which=WHICH, says_started=st.integers(0, 3), of_others=st.booleans(), has_epoch=st.booleans())
    def heartbeats(self, which: int, says_started: int, of_others: bool, has_epoch: bool) -> None:
        """Of several sessions at once: what has not ended and was not taken over is renewed, expired or not. What the
        worker has begun is marked, and nothing that others hold."""
        self.some_live(which)
        sessions = [self.session_that(is_what, which) for is_what in ("displaced", "lost", "open")]
        if of_others:
            self.lease_runs_out(sessions[-1])
        mine = sessions[which % 3]
        noticed = [each for each in self.model.live if of_others or each.session is mine][:says_started]
        for process in self.in_turn(has_epoch):
            some = list(dict.fromkeys(sessions)) if self.may_change(process) else sessions[-1:]
            self.renewed(process, some, mine, noticed)

    @rule(which=WHICH, is_what=IS_WHAT, has_epoch=st.booleans())
    def stream_closes(self, which: int, is_what: str, has_epoch: bool) -> None:
        """The lease runs on."""
        session = self.session_that(is_what, which)
        for process in self.in_turn(has_epoch):
            self.do(self.stores.sessions.close([session.session_id], process.fence))
            session.is_closed = session.is_closed or (self.may_change(process) and not session.has_ended)

    # --- claims ---------------------------------------------------------------------------------------------------

    @rule(which=WHICH, is_what=IS_WHAT, most=st.integers(1, 3), has_epoch=st.booleans())
    def claim(self, which: int, is_what: str, most: int, has_epoch: bool) -> None:
        """The best of what is ready, in order, and nothing for a session that is over."""
        session = self.session_that(is_what, which)
        if not self.model.ready(session.capabilities):
            self.submit_something(session.capabilities[0])
        for process in self.in_turn(has_epoch):
            claimed = self.do(self.claim_best(process, session, most))
            may = self.takes_work(process) and session.takes_work
            self.claimed(session, claimed, self.model.ready(session.capabilities)[:most] if may else [])

    @rule(which=WHICH, is_what=IS_WHAT, most=st.integers(1, 4), has_epoch=st.booleans())
    def claim_what_a_hint_names(self, which: int, is_what: str, most: int, has_epoch: bool) -> None:
        """Hints may be stale: of what they name only what is still queued is claimed."""
        self.some_job(which)
        session = self.session_that(is_what, which)
        named = self.model.executions[-1 - which :][:most]
        offers = [Offer(entry(execution), session.session_id) for execution in named]
        for process in self.in_turn(has_epoch):
            claimed = self.do(self.stores.claims.claim(offers, LONGEST, 65_536, process.fence))
            may = self.takes_work(process) and session.takes_work
            queued = [execution for execution in named if execution.state is ExecutionState.QUEUED]
            self.claimed(session, claimed, queued if may else [])

    @rule(most=st.integers(1, 3))
    def claim_at_once(self, most: int) -> None:
        """For all sessions at the same time: nothing twice."""
        self.some_job(0)
        self.work_goes_on()
        process = self.primary
        sessions = [each for each in self.model.open_sessions() if each.takes_work]

        async def race() -> list[list[ClaimedExecution]]:
            return await asyncio.gather(*(self.claim_best(process, each, most) for each in sessions))

        claimed = dict(zip(sessions, self.do(race()), strict=True))
        for session, some in claimed.items():
            assert len(some) <= most
            by_id = {each.known_id: each for each in self.model.ready(session.capabilities)}
            self.claimed(session, some, [by_id[each.execution_id] for each in some])

    # --- reports --------------------------------------------------------------------------------------------------

    @rule(
        which=WHICH,
        has_ended=st.sampled_from([False, False, True]),
        by=st.sampled_from(["its holder", "its holder", "a later one", "another principal"]),
        ending=ENDINGS,
        has_epoch=st.booleans(),
    )
    def report(self, which: int, has_ended: bool, by: str, ending: Ending, has_epoch: bool) -> None:
        """While the execution is live, its holder may, whether its lease is over or it was displaced or ended, and so
        may a later session of the same worker under the same principal; nobody else. Of what has ended, however it
        did, the same word is accepted once more, everything else is stale."""
        execution = self.some_ended(which) if has_ended else self.some_live(which)
        session = holder_of(execution)
        self.reported(self.primary, execution, self.session_of_another(session), ending)
        if by != "its holder":
            is_same = by == "a later one"
            session = self.come_back(session, resumes=False, is_same_principal=is_same)
        for process in self.in_turn(has_epoch):
            self.reported(process, execution, session, ending)

    @rule(which=WHICH, endings=st.lists(st.sampled_from([FAILURE, FAILURE, RETURNED]), min_size=2, max_size=5))
    def attempts_end(self, which: int, endings: list[Ending]) -> None:
        """One after the other, each as soon as it is due, until the job has no more."""
        job = self.some_live(which).job
        for ending in endings:
            self.the_database_says_what_the_model_says()
            self.come_due([each for each in self.model.waiting if each.job is job])
            if job.newest.state is ExecutionState.QUEUED:
                self.work_goes_on()
                session, process = self.some_session(which), self.primary
                offer = Offer(entry(job.newest), session.session_id)
                claimed = self.do(self.stores.claims.claim([offer], LONGEST, 65_536, process.fence))
                self.claimed(session, claimed, [job.newest])
            if job.newest.state.is_live:
                self.reported(self.primary, job.newest, holder_of(job.newest), ending)

    @rule(which=WHICH, first=ENDINGS, second=ENDINGS)
    def report_twice_at_once(self, which: int, first: Ending, second: Ending) -> None:
        """The first word counts."""
        execution, process = self.some_live(which), self.primary
        session = holder_of(execution)
        put = process.reports.commits.put
        words = [Reported(execution.known_id, session.session_id, session.reporter, each) for each in (first, second)]

        async def race() -> list[Outcome]:
            return await asyncio.gather(*(put(each, 1) for each in words))

        outcomes = self.do(race())
        execution.job.end(first)
        assert outcomes == [Outcome.ACCEPTED, self.model.answer(execution, session.reporter, second)]

    @rule(which=WHICH, has_epoch=st.booleans())
    def give_back_what_was_not_sent(self, which: int, has_epoch: bool) -> None:
        """It burns nothing, however often."""
        self.some_live(which)
        execution = pick(self.model.executions, which)
        assert execution is not None
        for process in self.in_turn(has_epoch):
            ended = self.permitted(
                process.settler.settle([execution.known_id], _returned_if_live),
                self.may_change(process) or not execution.state.is_live,
            )
            if ended is not None:
                assert ended == execution.state.is_live
                if ended:
                    execution.job.end(Returned(was_sent=False))


def _returned_if_live(execution: LockedExecution) -> Ending | None:
    return Returned(was_sent=False) if execution.state.is_live else None
