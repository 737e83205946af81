"""The meter of the oldest ready execution: how long what is due has waited for a worker, for alerts.

It measures where it can tell, in the scheduler that acts and in the primary region, and elsewhere the metric has no
sample at all: a follower would repeat what the leader says, and a passive region sees executions as ready that were
claimed long ago in the primary, as far as its database lags behind.
"""

import asyncio
from datetime import timedelta

from dispatchd.application.loops import every
from dispatchd.application.ports import RecoveryStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.telemetry import metrics

LOOK_EVERY = timedelta(seconds=15)
PAGE = 1_000
_PAUSE_S = 0.05
BEFORE_ALL = ("", 2**31)
"""Sorts before every capability and priority."""


class ReadyAgeMeter:
    """One loop (`run`). A look walks through the pairs of capability and priority, not through what waits."""

    def __init__(self, store: RecoveryStore, region: RegionWatch, leadership: Leadership, *, page: int = PAGE) -> None:
        self._store = store
        self._region = region
        self._leadership = leadership
        self._page = page

    async def run(self) -> None:
        """Measures until cancelled."""
        await every(LOOK_EVERY, "ready_age_meter", self.look)

    async def look(self) -> None:
        """Sets the metric, or takes its sample away where there is nothing to tell."""
        if not (self._leadership.should_act and self._region.may_change):
            metrics.OLDEST_READY_AGE.clear()
            return
        try:
            oldest = await self._oldest()
        except BaseException:
            metrics.OLDEST_READY_AGE.clear()
            raise
        metrics.OLDEST_READY_AGE.set(oldest.total_seconds())

    async def _oldest(self) -> timedelta:
        # What became due a moment ago may still be waiting for the queuer.
        next_due = await self._store.next_due()
        oldest = timedelta(0) if next_due is None else max(-next_due, timedelta(0))
        after = BEFORE_ALL
        while True:
            page = await self._store.oldest_of_each_queue(after, self._page)
            oldest = max([oldest, *(queue.age for queue in page)])
            if len(page) < self._page:
                return oldest
            after = page[-1].capability, page[-1].priority
            await asyncio.sleep(_PAUSE_S)
