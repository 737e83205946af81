"""The way from other threads into an event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Crossing(Generic[ItemT]):
    """Carries items into `loop`, in order, and wakes it once for all that wait.

    It holds at most `limit` items; what is offered beyond that is refused.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receive: Callable[[ItemT], None],
        *,
        limit: int,
        context: contextvars.Context | None = None,
    ):
        self._loop = loop
        self._receive = receive
        self._limit = limit
        self._context = context
        self._items: deque[ItemT] = deque()
        self._is_waking = False

    def offer(self, item: ItemT) -> bool:
        """Hand over an item from any thread; False if there is no room, or no loop any more."""
        if len(self._items) >= self._limit:
            return False
        # The order makes it safe without a lock: the item is there before the look at the flag, and _deliver clears
        # the flag before it looks for items.
        self._items.append(item)
        if not self._is_waking:
            self._is_waking = True
            try:
                self._loop.call_soon_threadsafe(self._deliver, context=self._context)
            except RuntimeError:  # the loop is closed
                return False
        return True

    def _deliver(self) -> None:
        self._is_waking = False
        for _ in range(len(self._items)):  # what comes meanwhile has its own wake-up
            self._receive(self._items.popleft())
