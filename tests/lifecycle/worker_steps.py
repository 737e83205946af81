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
    Renewal,
    Reporter,
)
from dispatchd.domain.execution import ExecutionState
from dispatchd.domain.settlement import Ending, Failed, Returned, Succeeded
from dispatchd.domain.worker import WorkerStatus
from lifecycle.acts import Acts, entry, ids_of
from lifecycle.machine import CAPABILITIES, LEASE, WHICH, WHO, pick
from lifecycle.model import AT_ONCE, Session
from stores import LONGEST, ids

SUCCESS = Succeeded(b"1", {"took": "1 s"})
FAILURE = Failed("no", "ValueError")
RETURNED = Returned(was_sent=True)
ENDINGS = st.sampled_from(
    [
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


class WorkerSteps(Acts):
    """Rules."""

    # --- sessions -------------------------------------------------------------------------------------------------

    @rule(who=WHO, capabilities=KINDS)
    def worker_comes(self, who: int, capabilities: tuple[str, ...]) -> None:
        self.new_worker(self.process(who), capabilities)

    @rule(
        who=WHO,
        which=WHICH,
        is_same_process=st.booleans(),
        is_same_principal=st.sampled_from([True, True, True, False]),
        resumes=st.booleans(),
        kept=st.integers(0, 7),
    )
    def worker_comes_back(
        self, who: int, which: int, is_same_process: bool, is_same_principal: bool, resumes: bool, kept: int
    ) -> None:
        """The same worker id again, with all or some of what it held. Somebody else's principal resumes nothing."""
        earlier = pick(list(self.model.newest_session.values()), which) or self.some_session(which)
        worker_id = earlier.reporter.worker_id
        held = [execution for execution in self.model.live if execution.worker_id == worker_id]
        new = Session(
            ids.session_id(),
            earlier.reporter if is_same_principal else Reporter(worker_id, f"not {earlier.reporter.principal}"),
            earlier.process_id if is_same_process else f"{earlier.process_id}'",
            earlier.capabilities,
        )
        keeps = [execution for place, execution in enumerate(held) if kept & (1 << place % 3)]
        self.register(self.process(who), new, resumes=resumes, keeps=keeps)

    @rule(who=WHO, which=WHICH, says_started=st.integers(0, 3))
    def heartbeat(self, who: int, which: int, says_started: int) -> None:
        """Renews what has not ended and was not taken over, expired or not; marks what the worker has begun."""
        process, session = self.process(who), self.any_session(which)
        noticed = self.model.held_by([session])[:says_started]
        notices = {execution.known_id: timedelta(milliseconds=1) for execution in noticed}
        renewal = Renewal(session.session_id, session.reporter.worker_id, WorkerStatus.READY, notices)
        outcome = self.permitted(self.stores.sessions.renew([renewal], LEASE, process.fence), self.may_change(process))
        if outcome is None:
            return
        assert outcome.renewed == ({session.session_id} if session.takes_work else set())
        assert outcome.superseded == ({session.session_id} if session.is_superseded else set())
        assert outcome.noticed == notices.keys()
        session.is_over = session.is_over and not session.takes_work
        for execution in noticed:
            execution.state = ExecutionState.RUNNING
        assert outcome.held == {session.session_id: ids_of(self.model.held_by([session]))}
        displaced = [each for each in self.model.open_sessions(session.reporter.worker_id) if each.is_superseded]
        still_held = ids_of(self.model.held_by(displaced))
        assert outcome.earlier == ({session.reporter.worker_id: still_held} if still_held else {})

    @rule(who=WHO, which=WHICH)
    def stream_closes(self, who: int, which: int) -> None:
        """The lease runs on."""
        process, session = self.process(who), self.any_session(which)
        self.do(self.stores.sessions.close([session.session_id], process.fence))
        session.is_closed = session.is_closed or (self.may_change(process) and not session.has_ended)

    # --- claims ---------------------------------------------------------------------------------------------------

    @rule(who=WHO, which=WHICH, most=st.integers(1, 4))
    def claim(self, who: int, which: int, most: int) -> None:
        """The best of what is ready, in order, and nothing for a session that is over, a passive region or an old
        epoch."""
        process, session = self.process(who), pick(self.model.open_sessions(), which) or self.some_session(which)
        if not self.model.ready(session.capabilities):
            self.submit_something(session.capabilities[0])
        claimed = self.do(self.claim_best(process, session, most))
        may = self.takes_work(process) and session.takes_work
        self.claimed(session, claimed, self.model.ready(session.capabilities)[:most] if may else [])

    @rule(who=WHO, which=WHICH, which_session=WHICH, most=st.integers(1, 4))
    def claim_what_a_hint_names(self, who: int, which: int, which_session: int, most: int) -> None:
        """Hints may be stale: of what they name only what is still queued is claimed."""
        process, session = self.process(who), self.any_session(which_session)
        named = self.model.executions[-1 - which :][:most]
        offers = [Offer(entry(execution), session.session_id) for execution in named]
        claimed = self.do(self.stores.claims.claim(offers, LONGEST, 65_536, process.fence))
        may = self.takes_work(process) and session.takes_work
        queued = [execution for execution in named if execution.state is ExecutionState.QUEUED]
        self.claimed(session, claimed, queued if may else [])

    @rule(most=st.integers(1, 3))
    def claim_at_once(self, most: int) -> None:
        """For all sessions at the same time: nothing twice."""
        process = self.process(0)
        sessions = [each for each in self.model.open_sessions() if each.takes_work]
        if not self.takes_work(process):
            return

        async def race() -> list[list[ClaimedExecution]]:
            return await asyncio.gather(*(self.claim_best(process, each, most) for each in sessions))

        claimed = dict(zip(sessions, self.do(race()), strict=True))
        for session, some in claimed.items():
            assert len(some) <= most
            by_id = {each.known_id: each for each in self.model.ready(session.capabilities)}
            self.claimed(session, some, [by_id[each.execution_id] for each in some])

    # --- reports --------------------------------------------------------------------------------------------------

    @rule(who=WHO, which=WHICH, ending=ENDINGS)
    def report(self, who: int, which: int, ending: Ending) -> None:
        """By the session that holds it, whether its lease is over or it was displaced or ended, for as long as the
        execution is live."""
        execution = self.some_live(which)
        if execution is not None and execution.session is not None:
            self.reported(self.process(who), execution, execution.session, ending)

    @rule(who=WHO, which=WHICH, ending=st.sampled_from([SUCCESS, FAILURE, RETURNED]))
    def report_again_or_too_late(self, who: int, which: int, ending: Ending) -> None:
        """Of what has ended, however it did: the same is accepted once more, everything else is stale."""
        assigned = [each for each in self.model.executions if each.session is not None and each.state.has_ended]
        execution = pick(assigned, which)
        if execution is not None and execution.session is not None:
            self.reported(self.process(who), execution, execution.session, ending)

    @rule(who=WHO, which=WHICH, which_session=WHICH, ending=st.sampled_from([SUCCESS, FAILURE, RETURNED]))
    def report_of_any_session(self, who: int, which: int, which_session: int, ending: Ending) -> None:
        """A later session of the same worker may report for an earlier one; nobody else may."""
        execution = pick(self.model.executions, which)
        if execution is not None:
            self.reported(self.process(who), execution, self.any_session(which_session), ending)

    @rule(which=WHICH, first=ENDINGS, second=ENDINGS)
    def report_twice_at_once(self, which: int, first: Ending, second: Ending) -> None:
        """The first word counts."""
        process, execution = self.process(0), self.some_live(which)
        if execution is None or execution.session is None:
            return
        session = execution.session
        put = process.reports.commits.put
        words = [Reported(execution.known_id, session.session_id, session.reporter, each) for each in (first, second)]

        async def race() -> list[Outcome]:
            return await asyncio.gather(*(put(each, 1) for each in words))

        outcomes = self.do(race())
        execution.job.end(first)
        assert outcomes == [Outcome.ACCEPTED, self.model.answer(execution, session.reporter, second)]

    @rule(who=WHO, which=WHICH)
    def give_back_what_was_not_sent(self, who: int, which: int) -> None:
        """It burns nothing, however often."""
        process, execution = self.process(who), pick(self.model.executions, which)
        if execution is None:
            return
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
