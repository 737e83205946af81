"""The repairer of the ready queues: Redis holds hints, this puts back what was lost.

::

    marker of this epoch missing ──▶ REBUILD: add everything that is ready, then set the marker
    marker there ─────────────────▶ REPAIR: every 2 s the first 10,000 of each capability,
                                    and a slow walk through the rest

An entry is added again only if it was absent at two looks at least a second apart: one look would add ids that were
popped and whose claim is not committed yet.
"""

import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta

from dispatchd.application.loops import every
from dispatchd.application.ports import HintsUnavailable, ReadyEntry, ReadyQueue, RecoveryStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.domain.ids import ExecutionId
from dispatchd.telemetry import metrics

LOOK_EVERY = timedelta(seconds=2)
LOOKS_APART_S = 1.0
HEAD = 10_000
PAGE = 2_000
SLOW_WALK_PAGES = 20
MOST_CAPABILITIES = 10_000
_log = logging.getLogger(__name__)


class ReadyQueueRepairer:
    """One loop (`run`)."""

    def __init__(self, store: RecoveryStore, queue: ReadyQueue, region: RegionWatch, leadership: Leadership) -> None:
        self._store = store
        self._queue = queue
        self._region = region
        self._leadership = leadership
        self._absent_since: dict[ExecutionId, float] = {}
        self._walk: dict[str, ReadyEntry] = {}
        """How far the slow walk has come in each capability that is longer than its head."""

    async def run(self) -> None:
        """Repairs until cancelled."""
        await every(LOOK_EVERY, "ready_queue_repairer", self._tick)

    async def _tick(self) -> None:
        await self._leadership.wait_until_acting()
        if not self._region.may_change:
            return
        try:
            if await self._queue.is_complete(self._region.row.epoch):
                await self._repair()
            else:
                await self._rebuild()
        except HintsUnavailable as exc:
            _log.debug("the ready queues can't be looked at: %s", exc)

    async def _rebuild(self) -> None:
        """Adds everything that is ready, then sets the marker. Stale entries do no harm: claims are guarded."""
        epoch = self._region.row.epoch
        added = 0
        for capability in await self._store.ready_capabilities(MOST_CAPABILITIES):
            async for page in self._pages(capability, None, None):
                await self._queue.offer(page)
                added += len(page)
        await self._queue.mark_complete(epoch)
        metrics.READY_QUEUE_REBUILDS.inc()
        _log.info("ready queues rebuilt", extra={"entries": added, "epoch": epoch})

    async def _repair(self) -> None:
        seen_absent: set[ExecutionId] = set()
        for capability in await self._store.ready_capabilities(MOST_CAPABILITIES):
            last: ReadyEntry | None = None
            async for page in self._pages(capability, None, HEAD):
                await self._look_at(page, seen_absent)
                last = page[-1]
            await self._walk_on(capability, last, seen_absent)
        now = time.monotonic()
        self._absent_since = {execution_id: self._absent_since.get(execution_id, now) for execution_id in seen_absent}

    async def _walk_on(self, capability: str, end_of_head: ReadyEntry | None, seen_absent: set[ExecutionId]) -> None:
        """A few pages behind the head. Where something is absent for the first time it stays for a second look."""
        if end_of_head is None:
            return
        start = self._walk.pop(capability, end_of_head)
        last = None
        known_absent = len(seen_absent - self._absent_since.keys())
        async for page in self._pages(capability, start, SLOW_WALK_PAGES * PAGE):
            await self._look_at(page, seen_absent)
            last = page[-1]
        if len(seen_absent - self._absent_since.keys()) > known_absent:
            self._walk[capability] = start
        elif last is not None:
            self._walk[capability] = last

    async def _look_at(self, page: list[ReadyEntry], seen_absent: set[ExecutionId]) -> None:
        absent = await self._queue.absent(page)
        now = time.monotonic()
        twice = [entry for entry in absent if now - self._absent_since.get(entry.execution_id, now) >= LOOKS_APART_S]
        seen_absent.update(entry.execution_id for entry in absent)
        if twice:
            await self._queue.offer(twice)
            seen_absent.difference_update(entry.execution_id for entry in twice)
            metrics.READY_QUEUE_REPAIRED.inc(len(twice))
            _log.warning("ready queue repaired", extra={"entries": len(twice), "capability": twice[0].capability})

    async def _pages(
        self, capability: str, after: ReadyEntry | None, most: int | None
    ) -> AsyncIterator[list[ReadyEntry]]:
        room = most
        while room is None or room > 0:
            page = await self._store.ready_page(capability, after, PAGE if room is None else min(PAGE, room))
            if not page:
                return
            yield page
            after = page[-1]
            room = None if room is None else room - len(page)
