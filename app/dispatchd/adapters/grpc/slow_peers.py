"""Peers that send or read slowly: what they may hold, in calls, bytes and time.

::

    headers ──▶ identity ──▶ Arrivals.message ──▶ handler ──▶ UnreadAnswers.hold ──▶ written, call over
                             not here after 30 s, or           more than 256 MiB of
                             the slowest of 256: ended         large ones: refused
"""

import asyncio
import time
from collections.abc import Awaitable
from datetime import timedelta

from dispatchd.domain.errors import Overloaded

LONGEST_ARRIVAL = timedelta(seconds=30)
SLOW_AFTER = timedelta(seconds=5)
"""Longer than a burst of calls, or this process's own work, delays a message that has arrived."""
MOST_SLOW = 256
UNREAD_BYTES = 256 * 1024 * 1024
SMALL_ANSWER_BYTES = 16 * 1024
"""Smaller answers are not counted: the bound on calls is enough for them."""

_LOOK_EVERY_S = 1.0


class Arrivals:
    """Messages whose call has begun. While `run` runs, none is waited for longer than `LONGEST_ARRIVAL`, and of those
    that are late the `MOST_SLOW` youngest, so that calls without a message can't keep others out."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Task[object], float] = {}
        self._ended: set[asyncio.Task[object]] = set()

    async def message(self, reading: Awaitable[bytes | None]) -> bytes | None:
        """What `reading` gives. Raises Overloaded when it takes too long."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = time.monotonic()
        try:
            return await reading
        except asyncio.CancelledError:
            # Unless the caller has gone as well.
            if task in self._ended and task.uncancel() == 0:
                raise Overloaded("the message of this call did not arrive in time") from None
            raise
        finally:
            del self._since[task]
            self._ended.discard(task)

    def end_slow(self, now: float) -> None:
        """Ends what is too late at this time.monotonic."""
        late = [task for task, since in self._since.items() if now - since > SLOW_AFTER.total_seconds()]
        excess = len(late) - MOST_SLOW
        for number, task in enumerate(late):
            is_over = number < excess or now - self._since[task] > LONGEST_ARRIVAL.total_seconds()
            if is_over and task not in self._ended:
                self._ended.add(task)
                task.cancel()

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.end_slow(time.monotonic())


class UnreadAnswers:
    """Large answers that callers have not taken yet. A caller who never reads keeps its answer in memory until its
    connection ends; more than `UNREAD_BYTES` of them are not made."""

    def __init__(self) -> None:
        self._bytes = 0

    def hold(self, size: int) -> None:
        """Counts an answer of the current task until that ends, as it does when the answer is written. Raises
        Overloaded."""
        if size <= SMALL_ANSWER_BYTES:
            return
        if self._bytes + size > UNREAD_BYTES:
            raise Overloaded("too many large answers wait to be read by their callers")
        task = asyncio.current_task()
        assert task is not None
        self._bytes += size
        task.add_done_callback(lambda _: self._forget(size))

    def _forget(self, size: int) -> None:
        self._bytes -= size
