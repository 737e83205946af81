"""How a worker leaves: finish, then cancel, then give back, each within its time.

asked ─► DRAINING: nothing new, what has not begun is given back
  │        │ all is finished and acked ──────────────────────────────────────────────► over
  │        │ drain timeout, or no time at all (the task of `serve` was cancelled)
  │        ▼
  │      async tasks are cancelled, awaited and given back; that is acked ───────────► over
  │        │ cancel timeout
  │        ▼
  │      what still runs is left behind; its lease runs out after the process exits ─► over
  │
  └─ a second signal skips all of it (Shift.stop)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dispatchd.sdk.worker.ledger import Held, Ledger, StopReason

CANCEL_TIMEOUT_S = 5.0

logger = logging.getLogger("dispatchd.worker")


class Drain:
    """Waits to be asked, then empties the ledger."""

    def __init__(
        self, ledger: Ledger, timeout_s: float, announce: Callable[[], None], cancel: Callable[[list[Held]], None]
    ):
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._announce = announce
        self._cancel = cancel
        self._asked = asyncio.Event()
        self._is_hurried = False

    @property
    def is_asked(self) -> bool:
        """Whether the worker is leaving."""
        return self._asked.is_set()

    def ask(self, *, hurry: bool = False) -> None:
        """Begin to leave; with `hurry`, don't wait for tasks to finish by themselves."""
        self._is_hurried = self._is_hurried or hurry
        self._asked.set()
        self._ledger.changed.set()

    async def run(self) -> None:
        """Wait to be asked, and return when the worker may go."""
        await self._asked.wait()
        ledger = self._ledger
        ledger.drain()
        self._announce()
        await self._until(lambda: ledger.is_empty or self._is_hurried, self._timeout_s)
        if ledger.is_empty:
            return
        self._cancel(ledger.stop(ledger.held_ids, StopReason.DRAINED))
        await self._until(lambda: ledger.only_threads_run, CANCEL_TIMEOUT_S)
        if ledger.running_ids:
            logger.warning(
                "still running at the end of the drain, and left to their leases: %s", ", ".join(ledger.running_ids)
            )

    async def _until(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not is_so():
                    self._ledger.changed.clear()
                    await self._ledger.changed.wait()
        except TimeoutError:
            return
