"""Due executions: what waits for a retry or for `run_at` becomes ready when its time has come."""

from datetime import timedelta

from dispatchd.application.announcer import Announcer
from dispatchd.application.loops import Wakeable, forever
from dispatchd.application.ports import RecoveryStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.scheduler.leadership import Leadership

BATCH = 1_000
SHORTEST_SLEEP = timedelta(milliseconds=10)


class DueQueuer:
    """Sleeps to the next due time, and is woken by an earlier one."""

    def __init__(
        self,
        store: RecoveryStore,
        announcer: Announcer,
        region: RegionWatch,
        leadership: Leadership,
        longest_sleep: timedelta,
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._region = region
        self._leadership = leadership
        self._longest_sleep = longest_sleep
        self._wake = Wakeable()
        self._pause = longest_sleep
        """How long it sleeps, or the longest while it looks: a wake-up that comes meanwhile is never too late."""

    def due_in(self, delay: timedelta) -> None:
        """Something becomes due in `delay`: look then, if that is earlier than planned."""
        if delay < self._pause:
            self._wake.wake()

    def look_now(self) -> None:
        """Wake-ups may have been lost."""
        self._wake.wake()

    async def run(self) -> None:
        """Queues what is due until cancelled."""
        await forever("due_queuer", self._tick)

    async def _tick(self) -> None:
        await self._leadership.wait_until_acting()
        self._pause = self._longest_sleep
        if self._region.may_change:
            due = await self._store.queue_due(BATCH, self._region.fence)
            self._announcer.ready(due)
            self._pause = timedelta(0) if len(due) == BATCH else await self._until_next()
        await self._wake.sleep(self._pause)

    async def _until_next(self) -> timedelta:
        delay = await self._store.next_due()
        return self._longest_sleep if delay is None else min(max(delay, SHORTEST_SLEEP), self._longest_sleep)
