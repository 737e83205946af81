"""Ends executions for reasons of the server's own, and says what follows: shared by gateway and scheduler."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence

from dispatchd.application.announcer import Announcer
from dispatchd.application.group_commit import execute_isolated
from dispatchd.application.ports import Decision, Followed, LockedExecution, NotPermitted, SettlementStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain import limits
from dispatchd.domain.errors import Unavailable
from dispatchd.domain.execution import EndReason
from dispatchd.domain.ids import ExecutionId, IdGenerator, JobId, format_execution_id, format_job_id
from dispatchd.domain.job import JobState
from dispatchd.domain.settlement import Ending, settle
from dispatchd.telemetry import metrics

Judge = Callable[[LockedExecution], Ending | None]
"""How a locked execution ends, or None to leave it alone. Called again when a transaction is tried again."""

_log = logging.getLogger(__name__)


class Settler:
    """Decides by the domain's rules, writes through the store, announces what follows."""

    def __init__(
        self,
        store: SettlementStore,
        announcer: Announcer,
        region: RegionWatch,
        ids: IdGenerator,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._region = region
        self._ids = ids
        self._chance = chance
        # A series that begins with its first event shows no increase, and an alert on dead letters would miss that one.
        metrics.JOBS_FINISHED.labels(state=JobState.FAILED)

    def decision(self, execution: LockedExecution, ending: Ending) -> Decision:
        """What `ending` means for a locked execution."""
        settlement = settle(execution.count, execution.policy, ending, self._chance())
        next_id = self._ids.execution_id() if settlement.next_execution is not None else None
        return Decision(execution, settlement, next_id)

    async def settle(self, execution_ids: Sequence[ExecutionId], judge: Judge) -> int:
        """Ends executions in batches; returns how many ended. What the database refuses is logged and left.

        Raises Unavailable or NotPermitted if some of them could not be ended now; the others are.
        """
        ended = 0
        not_now: Unavailable | NotPermitted | None = None
        for start in range(0, len(execution_ids), limits.BATCH_ITEMS):
            batch = execution_ids[start : start + limits.BATCH_ITEMS]
            for execution_id, answer in zip(
                batch, await execute_isolated(batch, lambda ids: self._settle_batch(ids, judge)), strict=True
            ):
                if isinstance(answer, Unavailable | NotPermitted):
                    not_now = answer
                elif isinstance(answer, Exception):
                    _log.error(
                        "an execution can't be ended",
                        extra={"execution_id": format_execution_id(execution_id), "error": str(answer)},
                    )
                else:
                    ended += answer
        if not_now is not None:
            raise not_now
        return ended

    async def _settle_batch(self, execution_ids: Sequence[ExecutionId], judge: Judge) -> Sequence[int]:
        decisions: list[Decision] = []

        def decide(locked: Sequence[LockedExecution]) -> Sequence[Decision]:
            decisions.clear()
            for execution in locked:
                if execution.state.has_ended:
                    continue
                ending = judge(execution)
                if ending is not None:
                    decisions.append(self.decision(execution, ending))
            return decisions

        followed = await self._store.settle(execution_ids, decide, self._region.fence)
        self.announce(decisions, followed)
        ended = {decision.execution.execution_id for decision in decisions}
        return [1 if execution_id in ended else 0 for execution_id in execution_ids]

    def announce_completed(self, job_ids: Sequence[JobId]) -> None:
        """After the commit: counts jobs that succeeded, and tells who waits for them."""
        self._announcer.finished(job_ids)
        metrics.EXECUTIONS_SETTLED.labels(end_reason=EndReason.SUCCEEDED).inc(len(job_ids))
        metrics.JOBS_FINISHED.labels(state=JobState.SUCCEEDED).inc(len(job_ids))

    def announce(self, decisions: Sequence[Decision], followed: Sequence[Followed]) -> None:
        """After the commit: counts, logs, and tells who waits and whose time is over."""
        delays = {
            decision.next_id: decision.settlement.next_execution.delay
            for decision in decisions
            if decision.settlement.next_execution is not None
        }
        for following in followed:
            delay = delays.get(following.entry.execution_id)
            if following.is_ready or delay is None:
                self._announcer.ready([following.entry])
            else:
                self._announcer.waiting(delay)
        finished = [d for d in decisions if d.settlement.job_state is not None]
        self._announcer.finished([decision.execution.job_id for decision in finished])
        for end_reason, count in Counter(d.settlement.end_reason for d in decisions).items():
            metrics.EXECUTIONS_SETTLED.labels(end_reason=end_reason).inc(count)
        for job_state, count in Counter(d.settlement.job_state for d in finished).items():
            metrics.JOBS_FINISHED.labels(state=job_state).inc(count)
        for decision in decisions:
            execution = decision.execution
            if decision.settlement.end_reason is EndReason.TIMED_OUT and execution.session_id is not None:
                self._announcer.canceled(execution.execution_id, execution.session_id, "the attempt timed out")
            if decision.settlement.error_message:
                _log_end(decision)


def _log_end(decision: Decision) -> None:
    settlement, execution = decision.settlement, decision.execution
    _log.info(
        "an execution ended without success",
        extra={
            "execution_id": format_execution_id(execution.execution_id),
            "job_id": format_job_id(execution.job_id),
            "worker_id": execution.worker_id,
            "attempt": execution.count.attempt,
            "end_reason": settlement.end_reason.value,
            "is_dead_letter": settlement.job_state is not None,
        },
    )
