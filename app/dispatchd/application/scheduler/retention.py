"""Retention: finished jobs go after a while, in small batches, with their executions and inputs."""

import asyncio
from datetime import timedelta

from dispatchd.application.loops import every
from dispatchd.application.ports import RecoveryStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.domain.job import JobState

LOOK_EVERY = timedelta(seconds=60)
BATCH = 500
_PAUSE_S = 0.05


class RetentionSweeper:
    """One loop (`run`); dead letters are kept for a time of their own."""

    def __init__(
        self,
        store: RecoveryStore,
        region: RegionWatch,
        leadership: Leadership,
        *,
        keep: timedelta,
        keep_dead_letters: timedelta,
        look_every: timedelta = LOOK_EVERY,
    ) -> None:
        self._store = store
        self._region = region
        self._leadership = leadership
        self._keep = keep
        self._keep_dead_letters = keep_dead_letters
        self._look_every = look_every

    async def run(self) -> None:
        """Sweeps until cancelled."""
        await every(self._look_every, "retention", self.sweep)

    async def sweep(self) -> None:
        """Deletes everything that is old enough now, batch by batch."""
        await self._leadership.wait_until_acting()
        kept = (
            ((JobState.SUCCEEDED, JobState.CANCELED), self._keep),
            ((JobState.FAILED,), self._keep_dead_letters),
        )
        for states, keep in kept:
            while self._region.may_change:
                if not await self._store.delete_finished(states, keep, BATCH, self._region.fence):
                    break
                await asyncio.sleep(_PAUSE_S)
        while self._region.may_change:
            if not await self._store.delete_sessions_and_workers(self._keep, BATCH, self._region.fence):
                break
            await asyncio.sleep(_PAUSE_S)
