"""What this process knows of the region row: read every second, and again whenever the database refuses a write."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from dispatchd.application.loops import every
from dispatchd.application.ports import NotPermitted, RegionStore
from dispatchd.domain.errors import DispatchdError, RegionReadOnly, Unavailable
from dispatchd.domain.region import RegionFence, RegionRow
from dispatchd.telemetry import metrics

LOOK_EVERY = timedelta(seconds=1)
LOOK_APART = timedelta(milliseconds=100)
_log = logging.getLogger(__name__)


class RegionWatch:
    """The row as last seen. The SQL of every write compares with the row itself; this only answers sooner."""

    def __init__(self, store: RegionStore, fence: RegionFence) -> None:
        self._store = store
        self.fence = fence
        self._row: RegionRow | None = None
        self._looked_at = 0.0
        self._on_change: list[Callable[[], None]] = []
        if fence.epoch is not None:
            metrics.REGION_EPOCH.labels(source="environment").set(fence.epoch)

    @property
    def row(self) -> RegionRow:
        """The row as last seen. Raises Unavailable before the first look."""
        if self._row is None:
            raise Unavailable("the region row has not been read yet: try again")
        return self._row

    @property
    def takes_work(self) -> bool:
        return self._row is not None and self.fence.why_no_new_work(self._row) is None

    @property
    def may_change(self) -> bool:
        return self._row is not None and self.fence.why_read_only(self._row) is None

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls back, without waiting, after each change of the row."""
        self._on_change.append(callback)

    async def check_takes_work(self) -> None:
        """Raises RegionReadOnly while new work is refused here."""
        if not self.takes_work:
            await self._look_before_refusing()
        self.fence.check_takes_work(self.row)

    async def check_may_change(self) -> None:
        """Raises RegionReadOnly while nothing may be changed here."""
        if not self.may_change:
            await self._look_before_refusing()
        self.fence.check_may_change(self.row)

    async def _look_before_refusing(self) -> None:
        """A region that has just become the primary takes work at once; at most ten looks a second."""
        if time.monotonic() - self._looked_at > LOOK_APART.total_seconds():
            await self.look()

    async def look(self) -> RegionRow:
        """Reads the row now."""
        row = await self._store.read()
        changed = row != self._row
        if changed:
            _log.info(
                "region row read",
                extra={"primary_region": row.primary_region, "epoch": row.epoch, "mode": row.mode.value},
            )
        self._row = row
        self._looked_at = time.monotonic()
        metrics.REGION_MUTATING.set(1 if self.may_change else 0)
        metrics.REGION_EPOCH.labels(source="row").set(row.epoch)
        if changed:
            for callback in self._on_change:
                callback()
        return row

    async def explain(self, exc: NotPermitted) -> DispatchdError:
        """The error for a write that the row forbade."""
        row = await self.look()
        why = self.fence.why_no_new_work(row)
        return RegionReadOnly(why) if why else Unavailable("the region row changed meanwhile: try again")

    async def run(self) -> None:
        """Looks every second until cancelled."""
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        await every(LOOK_EVERY, "region_watch", self._tick)

    async def _tick(self) -> None:
        await self.look()
