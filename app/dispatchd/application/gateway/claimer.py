"""The claimer of a gateway: finds ready executions for free slots, claims them in one statement, hands them out.

::

    free slots of all sessions, grouped by capabilities
        │ pop (Redis: the best heads)          │ without Redis: SKIP LOCKED scan in Postgres
        ▼                                      ▼
    entries ──▶ emptiest session first ──▶ one guarded claim ──▶ each session's outbox

Woken by a commit that made something ready, by a freed slot, by a registration; looks once a second anyway.
"""

import heapq
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.group_commit import execute_isolated
from dispatchd.application.loops import Wakeable, forever
from dispatchd.application.ports import (
    ClaimedExecution,
    ClaimStore,
    Demand,
    HintsUnavailable,
    NotPermitted,
    Offer,
    ReadyEntry,
    ReadyQueue,
)
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.domain import limits
from dispatchd.domain.ids import ExecutionId, SessionId
from dispatchd.domain.settlement import Returned
from dispatchd.telemetry import metrics

LOOK_EVERY = timedelta(seconds=1)
LOOK_WITHOUT_HINTS_EVERY = timedelta(milliseconds=100)
INLINE_BYTES = 64 * 1024
"""Larger payloads are read when their turn to be written comes, so that claims stay small in memory."""

_log = logging.getLogger(__name__)


class Claimer:
    """One loop (`run`) for all sessions of the gateway."""

    def __init__(
        self,
        store: ClaimStore,
        queue: ReadyQueue,
        settler: Settler,
        region: RegionWatch,
        sessions: Callable[[], Iterable[WorkerSession]],
        longest_execution: timedelta,
    ) -> None:
        self._store = store
        self._queue = queue
        self._settler = settler
        self._region = region
        self._sessions = sessions
        self._longest = longest_execution
        self._wake = Wakeable()
        self._has_hints = True
        self._stopped = False

    def wake(self) -> None:
        """Something may have become ready, or a slot free."""
        self._wake.wake()

    def stop(self) -> None:
        """Claims nothing more."""
        self._stopped = True

    async def run(self) -> None:
        """Claims until cancelled."""
        await forever("claimer", self._tick)

    async def _tick(self) -> None:
        await self._wake.sleep(LOOK_EVERY if self._has_hints else LOOK_WITHOUT_HINTS_EVERY)
        while await self._claim_round():
            pass

    async def _claim_round(self) -> bool:
        """One claim; whether there may be more to claim."""
        by_capabilities = self._free_sessions()
        if self._stopped or not by_capabilities or not self._region.takes_work:
            return False
        placing = _Placing(by_capabilities)
        demands = placing.demands()
        try:
            claimed, found = await self._claim_from_hints(placing, demands)
            source = "redis"
        except HintsUnavailable as exc:
            if self._has_hints:
                _log.warning("claiming from Postgres: %s", exc)
            self._has_hints = False
            claimed = await self._claim_from_database(placing, demands)
            found, source = len(claimed), "postgres"
        else:
            if not self._has_hints:
                _log.info("claiming from the ready queues again")
            self._has_hints = True
        metrics.EXECUTIONS_CLAIMED.labels(source=source).inc(len(claimed))
        await self._deliver(claimed)
        return found >= sum(demand.slots for demand in demands)

    def _free_sessions(self) -> dict[tuple[str, ...], list[WorkerSession]]:
        by_capabilities: defaultdict[tuple[str, ...], list[WorkerSession]] = defaultdict(list)
        slots = 0
        for session in self._sessions():
            if session.free_slots > 0:
                by_capabilities[session.registration.capabilities].append(session)
                slots += session.free_slots
        metrics.SLOTS_FREE.set(slots)
        return by_capabilities

    async def _claim_from_hints(
        self, placing: "_Placing", demands: Sequence[Demand]
    ) -> tuple[list[ClaimedExecution], int]:
        """What was claimed, and how many entries were found."""
        popped = await self._queue.pop(demands, self._region.row.epoch)
        offers = placing.place_popped(demands, popped)
        if not offers:
            return [], 0
        claimed: list[ClaimedExecution] = []

        async def claim(batch: Sequence[Offer]) -> Sequence[None]:
            claimed.extend(await self._store.claim(batch, self._longest, INLINE_BYTES, self._region.fence))
            return [None] * len(batch)

        failed: list[ReadyEntry] = []
        for offer, answer in zip(offers, await execute_isolated(offers, claim), strict=True):
            if isinstance(answer, Exception):
                failed.append(offer.entry)
                if not isinstance(answer, NotPermitted):
                    _log.warning("a claim failed: %s", answer, extra={"execution_id": offer.entry.execution_id.hex})
        if failed:
            # Popped and not claimed, as far as is known: back to its place. A claim of it is guarded.
            await self._put_back(failed)
        return claimed, len(offers) - len(failed)

    async def _put_back(self, entries: Sequence[ReadyEntry]) -> None:
        try:
            await self._queue.put_back(entries)
        except HintsUnavailable:
            _log.debug("popped entries were not put back; the repairer finds them")

    async def _claim_from_database(self, placing: "_Placing", demands: Sequence[Demand]) -> list[ClaimedExecution]:
        capabilities = sorted({capability for demand in demands for capability in demand.capabilities})
        most = sum(demand.slots for demand in demands)
        return await self._store.claim_best(
            capabilities, most, placing.place_ready, self._longest, INLINE_BYTES, self._region.fence
        )

    async def _deliver(self, claimed: Sequence[ClaimedExecution]) -> None:
        sessions = {session.session_id: session for session in self._sessions()}
        homeless: dict[ExecutionId, SessionId] = {}
        for execution in claimed:
            session = sessions.get(execution.session_id)
            if session is None or not session.is_open or session.is_draining:
                homeless[execution.execution_id] = execution.session_id
                continue
            session.assign(execution)
            metrics.START_LATENCY.observe(max(0.0, (execution.claimed_at - execution.due_at).total_seconds()))
        if homeless:
            await self.give_back(homeless)

    async def give_back(self, unsent: dict[ExecutionId, SessionId]) -> None:
        """Returns claims that were never written to a stream: they count for nothing and keep their place."""
        await self._settler.settle(
            list(unsent),
            lambda execution: (
                Returned(was_sent=False)
                if execution.state.is_live and execution.session_id == unsent[execution.execution_id]
                else None
            ),
        )


class _Placing:
    """Spreads entries over sessions: within a gateway the emptiest session that can do it gets it."""

    def __init__(self, by_capabilities: dict[tuple[str, ...], list[WorkerSession]]) -> None:
        self._heaps: dict[tuple[str, ...], list[tuple[float, int, int, WorkerSession]]] = {}
        for capabilities, sessions in by_capabilities.items():
            heap = [
                (-session.free_slots / session.registration.slots, position, session.free_slots, session)
                for position, session in enumerate(sessions)
            ]
            heapq.heapify(heap)
            self._heaps[capabilities] = heap

    def demands(self) -> list[Demand]:
        """Free slots by capabilities, at most one batch in all."""
        demands, room = [], limits.BATCH_ITEMS
        for capabilities, heap in self._heaps.items():
            slots = min(room, sum(free for _, _, free, _ in heap))
            if slots > 0:
                demands.append(Demand(capabilities, slots))
                room -= slots
        return demands

    def place_popped(self, demands: Sequence[Demand], popped: Sequence[Sequence[ReadyEntry]]) -> list[Offer]:
        return [
            Offer(entry, session.session_id)
            for demand, entries in zip(demands, popped, strict=True)
            for entry in entries
            if (session := self._take_emptiest([demand.capabilities])) is not None
        ]

    def place_ready(self, entries: Sequence[ReadyEntry]) -> list[Offer]:
        """Places the best entries of several capabilities, best first, as far as there are slots."""
        offers: list[Offer] = []
        for entry in sorted(entries, key=lambda e: (-e.priority, e.due_at, e.execution_id)):
            able = [capabilities for capabilities in self._heaps if entry.capability in capabilities]
            session = self._take_emptiest(able)
            if session is not None and len(offers) < limits.BATCH_ITEMS:
                offers.append(Offer(entry, session.session_id))
        return offers

    def _take_emptiest(self, groups: Sequence[tuple[str, ...]]) -> WorkerSession | None:
        heaps = [self._heaps[group] for group in groups if self._heaps[group]]
        if not heaps:
            return None
        heap = min(heaps, key=lambda candidates: candidates[0][:2])
        _, position, free, session = heap[0]
        if free > 1:
            heapq.heapreplace(heap, (-(free - 1) / session.registration.slots, position, free - 1, session))
        else:
            heapq.heappop(heap)
        return session
