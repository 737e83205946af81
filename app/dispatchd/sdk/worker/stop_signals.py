"""What SIGTERM and SIGINT do to a worker process: drain, then interrupt, then end.

1st ─► drain
2nd ─► stop, and KeyboardInterrupt in whatever the main thread runs ─┬─► the process ends by itself
                                                                     ├─ two seconds later ─► it is ended
3rd ─────────────────────────────────────────────────────────────────┴─────────────────────► it is ended
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LAST_WORDS_S = 2.0

logger = logging.getLogger("dispatchd.worker")


class StopSignals:
    """Counts signals. `exit_code` is None until the second has come."""

    def __init__(self, drain: Callable[[], None], stop: Callable[[], None]):
        self._drain = drain
        self._stop = stop
        self._count = 0
        self._end: threading.Timer | None = None
        self.exit_code: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals inside the block. Only the main thread can: elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Not loop.add_signal_handler: a task that blocks the event loop must not hold up the drain.
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            if self._end is not None:
                self._end.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            logger.info("signal %d: the worker drains; one more stops it at once", number)
            self._drain()
            return
        code = 128 + number
        if self._count > 2:
            os._exit(code)
        self.exit_code = code
        self._end = threading.Timer(LAST_WORDS_S, os._exit, [code])
        self._end.daemon = True
        self._end.start()
        self._stop()
        raise KeyboardInterrupt
