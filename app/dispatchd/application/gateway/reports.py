"""Results and give-backs: many gathered into one batch, acked after its commit.

::

    batch ──▶ successes: one statement ends those that this session holds ──────▶ accepted
                │ what is left: failures, give-backs, repeats, reports of an earlier session's executions
                ▼
              one transaction: lock, decide, write ──▶ accepted, stale or unknown

A report counts if its execution is live and its session is the reporter's own or an earlier one of the same worker id
under the same principal. A repeat with the same success flag is accepted without a write, a contradiction is stale.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from dispatchd.application.gateway.messages import Ack, Outcome, Report
from dispatchd.application.gateway.outbox import PendingAck
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.group_commit import GroupCommit
from dispatchd.application.ports import (
    Completion,
    Decision,
    LockedExecution,
    NotPermitted,
    Reporter,
    SettlementStore,
)
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.domain.errors import InvalidRequest, Unavailable
from dispatchd.domain.execution import EndReason
from dispatchd.domain.ids import ExecutionId, SessionId
from dispatchd.domain.settlement import Ending, Failed, Returned, Succeeded
from dispatchd.telemetry import metrics

_RETRY_S = 0.5
REFUSED = Failed("the database refused the result: a value in it is outside what can be stored", "ResultRefused")
"""Ends an attempt in place of a result that can't be stored."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reported:
    """A report with who sent it."""

    execution_id: ExecutionId
    session_id: SessionId
    reporter: Reporter
    ending: Ending


class ReportCollector:
    """Takes reports without making the stream wait; `commits.run()` is its loop.

    While the database is away, unsaved reports are held as long as their session lives. How many, and how large, is
    bounded for all sessions together; at that bound a stream that reports is not read until others are saved.
    """

    def __init__(
        self,
        store: SettlementStore,
        settler: Settler,
        region: RegionWatch,
        *,
        queue_items: int,
        queue_bytes: int,
    ) -> None:
        self._store = store
        self._settler = settler
        self._region = region
        self._most_items = queue_items
        self._most_bytes = queue_bytes
        self._held_items = 0
        self._held_bytes = 0
        self._room = asyncio.Event()
        self.commits: GroupCommit[Reported, Outcome] = GroupCommit(
            "complete", self._execute, most_items=queue_items, most_bytes=queue_bytes
        )

    async def report(self, session: WorkerSession, report: Report) -> None:
        """Queues a report; its ack follows the commit. Waits only while the gateway holds too many."""
        pending = session.outbox.expect_ack()
        if report.execution_id is None:
            session.outbox.answer(pending, Ack(report.execution_text, "no such execution", Outcome.UNKNOWN))
            return
        session.reported(report.execution_id)
        while self._held_items and not self._has_room(report.size_bytes):
            self._room.clear()
            await self._room.wait()
        self._hold(1, report.size_bytes)
        self._enqueue(session, report, pending)

    def _has_room(self, size_bytes: int) -> bool:
        return self._held_items < self._most_items and self._held_bytes + size_bytes <= self._most_bytes

    def _hold(self, items: int, size_bytes: int) -> None:
        self._held_items += items
        self._held_bytes += size_bytes
        metrics.RESULTS_HELD.set(self._held_items)
        metrics.RESULTS_HELD_BYTES.set(self._held_bytes)
        if items < 0:
            self._room.set()

    def _enqueue(self, session: WorkerSession, report: Report, pending: PendingAck) -> None:
        if report.execution_id is None or not session.is_open:
            self._hold(-1, -report.size_bytes)
            return
        reported = Reported(report.execution_id, session.session_id, session.reporter, report.ending)
        answer = self.commits.enqueue_now(reported, report.size_bytes)
        answer.add_done_callback(lambda done: self._answered(session, report, pending, done))

    def _answered(
        self, session: WorkerSession, report: Report, pending: PendingAck, done: asyncio.Future[Outcome]
    ) -> None:
        exc = done.exception()
        if report.execution_id is None:
            return
        if isinstance(exc, Unavailable):
            delay_s = _RETRY_S * (0.5 + random.random())
            asyncio.get_running_loop().call_later(delay_s, self._enqueue, session, report, pending)
            return
        if isinstance(exc, InvalidRequest) and report.ending is not REFUSED:
            # Left as it is, it would seem to be a claim that got lost, and be delivered again for ever.
            _log.error("a result was refused by the database", extra={"execution_id": report.execution_text})
            self._enqueue(session, replace(report, ending=REFUSED), pending)
            return
        self._hold(-1, -report.size_bytes)
        session.saved(report.execution_id)
        match exc:
            case None:
                outcome = Outcome.STALE if report.ending is REFUSED else done.result()
                session.outbox.answer(pending, Ack(report.execution_text, outcome.value, outcome))
            case NotPermitted():
                # Dropped unacked: the worker sends it again in the region that is primary now.
                return
            case InvalidRequest():
                session.outbox.answer(pending, Ack(report.execution_text, str(exc), Outcome.STALE))
            case _:
                _log.error("a result could not be saved", exc_info=exc)

    async def _execute(self, batch: Sequence[Reported]) -> Sequence[Outcome]:
        completed = await self._complete(batch)
        others = [reported for reported in batch if reported.execution_id not in completed]
        outcomes = iter(await self._settle(others) if others else ())
        return [Outcome.ACCEPTED if reported.execution_id in completed else next(outcomes) for reported in batch]

    async def _complete(self, batch: Sequence[Reported]) -> Set[ExecutionId]:
        """Ends by the short way what it can: successes, each the only word of the batch on its execution."""
        words = Counter(reported.execution_id for reported in batch)
        completions = [
            Completion(reported.execution_id, reported.session_id, reported.ending)
            for reported in batch
            if isinstance(reported.ending, Succeeded) and words[reported.execution_id] == 1
        ]
        if not completions:
            return frozenset()
        completed = await self._store.complete(completions, self._region.fence)
        self._settler.announce_completed(list(completed.values()))
        return completed.keys()

    async def _settle(self, batch: Sequence[Reported]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        decisions: list[Decision] = []

        def decide(locked: Sequence[LockedExecution]) -> Sequence[Decision]:
            outcomes.clear()
            decisions.clear()
            by_id = {execution.execution_id: execution for execution in locked}
            decided: dict[ExecutionId, Ending] = {}
            for reported in batch:
                execution = by_id.get(reported.execution_id)
                outcome = judge(execution, reported, decided.get(reported.execution_id))
                if execution is not None and outcome is None:
                    decided[reported.execution_id] = reported.ending
                    decisions.append(self._settler.decision(execution, reported.ending))
                outcomes.append(Outcome.ACCEPTED if outcome is None else outcome)
            return decisions

        ids = list(dict.fromkeys(reported.execution_id for reported in batch))
        followed = await self._store.settle(ids, decide, self._region.fence)
        self._settler.announce(decisions, followed)
        return outcomes


def judge(execution: LockedExecution | None, reported: Reported, decided: Ending | None) -> Outcome | None:
    """None if this report ends the execution; else the answer that needs no write. `decided` is what an earlier
    report of the same batch said."""
    if execution is None:
        return Outcome.UNKNOWN
    if execution.holder != reported.reporter:
        was_this_workers = execution.holder is None and execution.worker_id == reported.reporter.worker_id
        return Outcome.STALE if was_this_workers else Outcome.UNKNOWN
    if decided is not None:
        return Outcome.ACCEPTED if _kind(decided) == _kind(reported.ending) else Outcome.STALE
    if execution.state.is_live:
        return None
    return Outcome.ACCEPTED if execution.end_reason is _kind(reported.ending) else Outcome.STALE


def _kind(ending: Ending) -> EndReason:
    match ending:
        case Succeeded():
            return EndReason.SUCCEEDED
        case Failed():
            return EndReason.FAILED
        case Returned():
            return EndReason.RETURNED
        case _:
            raise TypeError(f"a worker can't report {ending!r}")
