"""Background loops: nothing in a loop dies of one bad tick."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from dispatchd.application.ports import HintsUnavailable
from dispatchd.domain.errors import DispatchdError
from dispatchd.telemetry import metrics

LONGEST_PAUSE = timedelta(seconds=1)
_log = logging.getLogger(__name__)

Tick = Callable[[], Awaitable[None]]


async def every(interval: timedelta, name: str, tick: Tick) -> None:
    """Runs `tick`, then sleeps `interval`, until cancelled. A failure is followed by no longer a pause than that."""

    async def tick_and_sleep() -> None:
        await tick()
        await asyncio.sleep(interval.total_seconds())

    await forever(name, tick_and_sleep, min(interval, LONGEST_PAUSE))


async def forever(name: str, tick: Tick, longest_pause: timedelta = LONGEST_PAUSE) -> None:
    """Runs `tick` again and again until cancelled. A failure is logged, counted and followed by a growing pause with
    jitter; `tick` paces itself."""
    failures = 0
    while True:
        try:
            await tick()
            failures = 0
        except Exception as exc:
            failures += 1
            metrics.LOOP_FAILURES.labels(loop=name).inc()
            # A database or Redis that is away is no defect; where the loop stood then says nothing.
            defect = None if isinstance(exc, DispatchdError | HintsUnavailable) else exc
            _log.warning(
                "a tick failed", extra={"loop": name, "error": f"{type(exc).__name__}: {exc}"}, exc_info=defect
            )
            pause_s = min(0.05 * 2.0 ** min(failures, 20), longest_pause.total_seconds())
            await asyncio.sleep(pause_s * (0.5 + random.random() / 2))


class Wakeable:
    """A sleep that can be cut short from elsewhere in the process."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def sleep(self, longest: timedelta) -> None:
        """Returns after `longest`, or as soon as `wake` was called since the last return."""
        alarm = asyncio.get_running_loop().call_later(max(0.0, longest.total_seconds()), self._event.set)
        try:
            await self._event.wait()
        finally:
            alarm.cancel()
        self._event.clear()
