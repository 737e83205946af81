"""Watching the user's event loop: a loop that never comes back must not keep its leases for ever."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

logger = logging.getLogger("dispatchd.worker")


class StallWatch:
    """Asks the user's loop for a sign of life, and says when there was none for `limit_s`, and when there is again.

    A task may well block the loop for a while; its lease is kept. Only when the loop is silent for longer than any task
    should block it, the worker stops renewing, so that its executions go to other workers.
    """

    def __init__(
        self,
        user_loop: asyncio.AbstractEventLoop,
        limit_s: float,
        stalled: Callable[[], None],
        alive_again: Callable[[], None],
    ):
        self._user_loop = user_loop
        self._limit_s = limit_s
        self._stalled = stalled
        self._alive_again = alive_again
        self._heard_at = time.monotonic()
        self._is_asked = False

    async def run(self) -> None:
        """Watch until cancelled."""
        is_stalled = False
        while True:
            silent_s = time.monotonic() - self._heard_at
            if not is_stalled and silent_s > self._limit_s:
                logger.error("the event loop has been blocked for %.0f s: its leases are no longer renewed", silent_s)
                is_stalled = True
                self._stalled()
            elif is_stalled and silent_s <= self._limit_s:
                logger.warning("the event loop answers again: the worker connects again")
                is_stalled = False
                self._alive_again()
            self._ask()
            await asyncio.sleep(min(self._limit_s / 4, 1.0))

    def _ask(self) -> None:
        if not self._is_asked:
            self._is_asked = True
            self._user_loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._heard_at = time.monotonic()
        self._is_asked = False
