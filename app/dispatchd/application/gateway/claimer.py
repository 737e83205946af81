"""The claimer of a gateway: finds ready executions for free slots, claims them in one statement, hands them out.

::

    free slots of all sessions, grouped by capabilities
        │ pop (Redis: the best heads)          │ without Redis: SKIP LOCKED scan in Postgres
        ▼                                      ▼
    entries ──▶ emptiest session first ──▶ one guarded claim ──▶ each session's outbox

Woken by a commit that made something ready, by a freed slot, by a registration; looks once a second anyway.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from dispatchd.application.gateway.placing import FreeSession, Placing, SessionsByCapabilities
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.group_commit import execute_isolated
from dispatchd.application.loops import Wakeable, forever
from dispatchd.application.ports import (
    BatchRejected,
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
from dispatchd.domain.errors import InvalidRequest, Unavailable
from dispatchd.domain.ids import ExecutionId, SessionId
from dispatchd.domain.settlement import Returned
from dispatchd.telemetry import metrics

LOOK_EVERY = timedelta(seconds=1)
LOOK_WITHOUT_HINTS_EVERY = timedelta(milliseconds=100)
INLINE_BYTES = 64 * 1024
"""Larger payloads are read when their turn to be written comes, so that claims stay small in memory."""

_AVOID_S = 10.0

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
        self._round = asyncio.Lock()
        self._turn = 0
        self._refused: dict[ExecutionId, float] = {}
        """What the database refused to claim, and when (`time.monotonic()`): not tried again for some seconds."""
        self._unsent: dict[ExecutionId, SessionId] = {}
        self._return_after = 0.0
        self._all_returned = asyncio.Event()
        self._all_returned.set()
        self.claiming: set[ExecutionId] = set()
        """Claims under way: committed or not, no session knows of them yet."""

    def wake(self) -> None:
        """Something may have become ready, or a slot free."""
        self._wake.wake()

    def stop(self) -> None:
        """Claims nothing more, but for a claim that is under way."""
        self._stopped = True

    async def at_rest(self) -> None:
        """Waits until no claim is under way and all that was to be returned is; after `stop`, that lasts."""
        async with self._round:
            pass
        await self._all_returned.wait()

    async def run(self) -> None:
        """Claims until cancelled."""
        await forever("claimer", self._tick)

    async def _tick(self) -> None:
        await self._wake.sleep(LOOK_EVERY if self._has_hints else LOOK_WITHOUT_HINTS_EVERY)
        await self._return_unsent()
        while await self._claim_round():
            pass

    async def _claim_round(self) -> bool:
        """One claim; whether there may be more to claim."""
        async with self._round:
            by_capabilities = self._free_sessions()
            if self._stopped or not by_capabilities or not self._region.takes_work:
                return False
            try:
                return await self._claim(by_capabilities)
            finally:
                self.claiming.clear()

    async def _claim(self, by_capabilities: SessionsByCapabilities) -> bool:
        placing = Placing(by_capabilities, self._turn)
        demands = placing.demands()
        self._turn += 1 if len(demands) == len(by_capabilities) else len(demands)
        try:
            claimed, found = await self._claim_from_hints(placing, demands)
            source = "redis"
        except HintsUnavailable as exc:
            if self._has_hints:
                _log.warning("claiming from Postgres: %s", exc)
            self._has_hints = False
            claimed, found = await self._claim_from_database(by_capabilities)
            source = "postgres"
        else:
            if not self._has_hints:
                _log.info("claiming from the ready queues again")
            self._has_hints = True
        metrics.EXECUTIONS_CLAIMED.labels(source=source).inc(len(claimed))
        self._deliver(claimed)
        return found >= min(limits.BATCH_ITEMS, sum(demand.slots for demand in demands))

    def _free_sessions(self) -> SessionsByCapabilities:
        by_capabilities: defaultdict[tuple[str, ...], list[FreeSession]] = defaultdict(list)
        slots = 0
        for session in self._sessions():
            if (free := session.free_slots) > 0:
                by_capabilities[session.registration.capabilities].append((session, free))
                slots += free
        metrics.SLOTS_FREE.set(slots)
        return by_capabilities

    async def _claim_from_hints(
        self, placing: Placing, demands: Sequence[Demand]
    ) -> tuple[list[ClaimedExecution], int]:
        """What was claimed, and how many entries were dealt with."""
        popped = await self._queue.pop(demands, self._region.row.epoch)
        offers = placing.place_popped(demands, popped)
        claimed, lost, failed = await self._claim_offers(offers)
        if lost or failed:
            # Popped and not claimed, as far as is known: back to its place. A claim of it is guarded.
            await self._put_back(lost + failed)
        # What failed is not tried again at once: the database has to come back first.
        return claimed, len(offers) - len(failed)

    async def _claim_offers(
        self, offers: Sequence[Offer]
    ) -> tuple[list[ClaimedExecution], list[ReadyEntry], list[ReadyEntry]]:
        """What was claimed; what was offered to a session that is over; and what failed."""
        if not offers:
            return [], [], []
        self.claiming.update(offer.entry.execution_id for offer in offers)
        claimed: list[ClaimedExecution] = []

        async def claim(batch: Sequence[Offer]) -> Sequence[None]:
            claimed.extend(await self._store.claim(batch, self._longest, INLINE_BYTES, self._region.fence))
            return [None] * len(batch)

        failed: list[ReadyEntry] = []
        unclaimed: list[Offer] = []
        answers = await execute_isolated(offers, claim)
        taken = {execution.execution_id for execution in claimed}
        for offer, answer in zip(offers, answers, strict=True):
            if isinstance(answer, InvalidRequest):
                self._refuse(offer.entry.execution_id, answer)
            elif isinstance(answer, Exception):
                failed.append(offer.entry)
                _log.info("a claim failed: %s", answer, extra={"execution_id": offer.entry.execution_id.hex})
            elif offer.entry.execution_id not in taken:
                unclaimed.append(offer)
        return claimed, await self._offered_to_the_dead(unclaimed), failed

    def _refuse(self, execution_id: ExecutionId, why: InvalidRequest) -> None:
        now = time.monotonic()
        self._refused = {refused: at for refused, at in self._refused.items() if now - at < _AVOID_S}
        self._refused[execution_id] = now
        _log.error("the database refuses a claim: %s", why, extra={"execution_id": execution_id.hex})

    async def _offered_to_the_dead(self, unclaimed: Sequence[Offer]) -> list[ReadyEntry]:
        """Most of what is left unclaimed was no longer queued. But a session that is over takes nothing, and would be
        offered the best again and again until it is heard: it is trusted no more."""
        offered_to = {offer.session_id for offer in unclaimed}
        if not offered_to:
            return []
        over = await self._store.sessions_over(list(offered_to))
        for session in self._sessions():
            if session.session_id in over:
                session.distrust()
        return [offer.entry for offer in unclaimed if offer.session_id in over]

    async def _put_back(self, entries: Sequence[ReadyEntry]) -> None:
        try:
            await self._queue.put_back(entries)
        except HintsUnavailable:
            _log.debug("popped entries were not put back; the repairer finds them")

    async def _claim_from_database(self, by_capabilities: SessionsByCapabilities) -> tuple[list[ClaimedExecution], int]:
        """What was claimed, and how many were tried."""
        chosen: list[Offer] = []

        def choose(entries: Sequence[ReadyEntry]) -> Sequence[Offer]:
            acceptable = [entry for entry in entries if entry.execution_id not in self._refused]
            chosen[:] = Placing(self._free_sessions()).place_ready(acceptable)
            self.claiming.update(offer.entry.execution_id for offer in chosen)
            return chosen

        def look(entries: Sequence[ReadyEntry]) -> Sequence[Offer]:
            choose(entries)
            return ()

        try:
            claimed = await self._claim_best(by_capabilities, choose)
        except BatchRejected:
            # One of them can't be claimed. Choose again, let the locks go, and find out which.
            await self._claim_best(by_capabilities, look)
            claimed, _, _ = await self._claim_offers(chosen)
        else:
            taken = {execution.execution_id for execution in claimed}
            await self._offered_to_the_dead([offer for offer in chosen if offer.entry.execution_id not in taken])
        return claimed, len(chosen)

    async def _claim_best(
        self, by_capabilities: SessionsByCapabilities, choose: Callable[[Sequence[ReadyEntry]], Sequence[Offer]]
    ) -> list[ClaimedExecution]:
        capabilities = sorted({capability for group in by_capabilities for capability in group})
        slots = sum(free for group in by_capabilities.values() for _, free in group)
        most = min(limits.BATCH_ITEMS, slots) + len(self._refused)
        return await self._store.claim_best(capabilities, most, choose, self._longest, INLINE_BYTES, self._region.fence)

    def _deliver(self, claimed: Sequence[ClaimedExecution]) -> None:
        sessions = {session.session_id: session for session in self._sessions()}
        homeless: dict[ExecutionId, SessionId] = {}
        for execution in claimed:
            session = sessions.get(execution.session_id)
            if session is None or session.free_slots <= 0:
                # It closed, fell silent or was told to stop while the claim was under way.
                homeless[execution.execution_id] = execution.session_id
                continue
            session.assign(execution)
            metrics.START_LATENCY.observe(max(0.0, (execution.claimed_at - execution.due_at).total_seconds()))
        self.give_back(homeless)

    def give_back(self, unsent: Mapping[ExecutionId, SessionId]) -> None:
        """Returns claims that were never written to a stream: they count for nothing and keep their place. It happens
        soon, is tried again as often as it takes, and nobody waits for it."""
        if unsent:
            self._unsent.update(unsent)
            self._all_returned.clear()
            self._wake.wake()

    async def _return_unsent(self) -> None:
        unsent = dict(self._unsent)
        if not unsent or time.monotonic() < self._return_after:
            return
        try:
            await self._settler.settle(
                list(unsent),
                lambda execution: (
                    Returned(was_sent=False)
                    if execution.state.is_live and execution.session_id == unsent[execution.execution_id]
                    else None
                ),
            )
        except Unavailable as exc:
            _log.info("claims that were not sent can't be returned yet: %s", exc, extra={"count": len(unsent)})
            self._return_after = time.monotonic() + LOOK_EVERY.total_seconds()
            return
        except NotPermitted:
            # Another region decides about them now.
            _log.info("claims that were not sent are left to the primary region", extra={"count": len(unsent)})
        for execution_id in unsent:
            self._unsent.pop(execution_id, None)
        if not self._unsent:
            self._all_returned.set()
