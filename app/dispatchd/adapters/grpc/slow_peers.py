"""Peers that send or read slowly: what they may hold, in calls, bytes and time.

::

    headers ──▶ identity ──▶ Arrivals.message ──▶ handler ──▶ UnreadAnswers.hold ──▶ written, call over
                             not here after 30 s, or           more than 256 MiB of large ones,
                             the slowest of 256: ended         or 64 MiB of one caller: refused
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta

from dispatchd.domain.errors import Overloaded

LONGEST_ARRIVAL = timedelta(seconds=30)
SLOW_AFTER = timedelta(seconds=5)
"""Longer than a burst of calls, or this process's own work, delays a message that has arrived."""
MOST_SLOW = 256
UNREAD_BYTES = 256 * 1024 * 1024
CALLER_UNREAD_BYTES = 64 * 1024 * 1024
"""So that one caller who never reads leaves room for the others."""
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
    connection ends; more than `UNREAD_BYTES` of them are not made, nor more than `CALLER_UNREAD_BYTES` for one."""

    def __init__(self) -> None:
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()

    def hold(self, size: int, subject: str | None, *, is_late: bool) -> None:
        """Counts an answer of the current task until that ends, as it does when the answer is written.

        Without tokens there is no `subject`, and all callers are one. An answer that `is_late` tells of what has been
        done already and is never refused. Raises Overloaded.
        """
        if size <= SMALL_ANSWER_BYTES:
            return
        is_too_much = subject is not None and self._bytes_of[subject] + size > CALLER_UNREAD_BYTES
        if not is_late and (is_too_much or self._bytes + size > UNREAD_BYTES):
            whose = "your" if is_too_much else "all"
            raise Overloaded(f"too many of {whose} large answers wait to be read")
        task = asyncio.current_task()
        assert task is not None
        self._add(size, subject)
        task.add_done_callback(lambda _: self._add(-size, subject))

    def _add(self, size: int, subject: str | None) -> None:
        self._bytes += size
        if subject is not None:
            self._bytes_of[subject] += size
            if not self._bytes_of[subject]:
                del self._bytes_of[subject]
