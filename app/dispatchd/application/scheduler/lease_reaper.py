"""The lease reaper: ends sessions whose lease is over, and then whatever still stands on an ended session.

Two steps, each by state, so that a crash between them loses nothing:

1. A session ends by one update of its own row, rechecked under the row's lock, committed first.
2. Every claimed or running execution whose session has ended or is missing ends as a lost lease; one that is past its
   deadline ends as timed out, and its worker is told.

After an outage of the database the fleet could not renew, so the reaper waits a third of a lease after the database
is back; and a whole lease after the region changed, so that workers can resume in the new one.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from dispatchd.application.loops import Wakeable, forever
from dispatchd.application.ports import LockedExecution, RecoveryStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.application.settler import Settler
from dispatchd.domain.settlement import Ending, LeaseLost, TimedOut
from dispatchd.telemetry import metrics

BATCH = 1_000
SHORTEST_SLEEP = timedelta(milliseconds=50)
LONGEST_SLEEP = timedelta(seconds=2)
"""What begins while it sleeps ends no later than this after its time, however long the poll interval."""
_log = logging.getLogger(__name__)


class LeaseReaper:
    """One loop (`run`)."""

    def __init__(
        self,
        store: RecoveryStore,
        settler: Settler,
        region: RegionWatch,
        leadership: Leadership,
        *,
        lease: timedelta,
        longest_sleep: timedelta,
        last_database_failure: Callable[[], float | None],
    ) -> None:
        self._store = store
        self._settler = settler
        self._region = region
        self._leadership = leadership
        self._lease = lease
        self._longest_sleep = min(longest_sleep, LONGEST_SLEEP)
        self._last_database_failure = last_database_failure
        self._pause = Wakeable()

    async def run(self) -> None:
        """Reaps until cancelled."""
        await forever("lease_reaper", self._tick)

    async def _tick(self) -> None:
        await self._leadership.wait_until_acting()
        if not self._region.may_change:
            await self._pause.sleep(self._longest_sleep)
            return
        grace = await self._grace_remaining()
        if grace > timedelta(0):
            await self._pause.sleep(min(grace, self._longest_sleep))
            return
        expired = await self._store.end_expired_sessions(BATCH, self._region.fence)
        if expired:
            metrics.SESSIONS_LOST.inc(len(expired))
            _log.info(
                "leases ran out", extra={"sessions": len(expired), "workers": [worker for _, worker in expired[:20]]}
            )
        to_recover = await self._store.executions_to_recover(BATCH)
        if to_recover:
            await self._settler.settle(to_recover, judge)
        if len(expired) < BATCH and len(to_recover) < BATCH:
            await self._pause.sleep(await self._until_next())

    async def _grace_remaining(self) -> timedelta:
        clock = await self._store.clock()
        graces = [self._lease / 3 - clock.since_start, self._lease - clock.since_region_change]
        failed_at = self._last_database_failure()
        if failed_at is not None:
            graces.append(self._lease / 3 - timedelta(seconds=time.monotonic() - failed_at))
        return max(graces)

    async def _until_next(self) -> timedelta:
        delay = await self._store.next_lease_or_deadline()
        if delay is None:
            return self._longest_sleep
        return min(max(delay, SHORTEST_SLEEP), self._longest_sleep)


def judge(execution: LockedExecution) -> Ending | None:
    """How the server ends an execution whose worker did not, or None to leave it alone."""
    if not execution.state.is_live:
        return None
    if execution.session_over:
        return LeaseLost(f"lease lost: worker {execution.worker_id} was not heard in time")
    if execution.is_overdue:
        return TimedOut("the attempt took longer than its timeout")
    return None
