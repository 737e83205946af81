"""Leadership: one scheduler a region acts, as long as there is Redis; without it every scheduler acts.

::

    FOLLOWING ──lock taken──▶ LEADING ──lock not ours any more──▶ FOLLOWING
         └──────────────── Redis away: ACTING WITHOUT LOCK ──────────┘

The lock lasts 2 s and is renewed every 0.5 s, whatever the leases of workers are. It is an optimisation: every
statement of the scheduler is guarded by itself.
"""

import asyncio
import logging
from datetime import timedelta

from dispatchd.application.loops import forever
from dispatchd.application.ports import HintsUnavailable, LeaderLock
from dispatchd.telemetry import metrics

RENEW_EVERY = timedelta(milliseconds=500)
_log = logging.getLogger(__name__)


class Leadership:
    """`run()` keeps the lock; the loops ask `should_act` before each tick."""

    def __init__(self, lock: LeaderLock) -> None:
        self._lock = lock
        self._leads = False
        self._has_lock_service = True
        self._acting = asyncio.Event()

    @property
    def should_act(self) -> bool:
        return self._leads or not self._has_lock_service

    async def wait_until_acting(self) -> None:
        """Returns at once while this process should act."""
        await self._acting.wait()

    async def run(self) -> None:
        """Keeps the lock until cancelled, then gives it up."""
        try:
            await forever("leadership", self._tick)
        finally:
            await asyncio.shield(self._release())

    async def _tick(self) -> None:
        try:
            leads, has_lock_service = await self._lock.acquire_or_renew(), True
        except HintsUnavailable:
            leads, has_lock_service = False, False
        if (leads, has_lock_service) != (self._leads, self._has_lock_service):
            _log.info("leadership changed", extra={"leads": leads, "has_lock_service": has_lock_service})
        self._leads, self._has_lock_service = leads, has_lock_service
        metrics.LEADER.set(1 if leads else 0)
        if self.should_act:
            self._acting.set()
        else:
            self._acting.clear()
        await asyncio.sleep(RENEW_EVERY.total_seconds())

    async def _release(self) -> None:
        self._acting.clear()
        if self._leads:
            try:
                await self._lock.release()
            except HintsUnavailable:
                _log.info("the leader lock was not released; it runs out by itself")
