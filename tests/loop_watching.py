"""Proves that nothing holds up the event loop: a thread asks the loop for a sign of life again and again."""

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

LONGEST_STALL_S: Final = 0.25

# The thread asking may have been held up itself, by a busy machine; then its watch says nothing.
_LATE_S = 0.05
_PAUSE_S = 0.02


@contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class LoopWatch:
    """Collects in `stalls` the stack of the loop's thread each time the loop was silent for a quarter of a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, longest_stall_s: float = LONGEST_STALL_S) -> None:
        self.stalls: list[str] = []
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._longest_stall_s = longest_stall_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            alive = threading.Event()
            asked = time.monotonic()
            self._loop.call_soon_threadsafe(alive.set)
            if alive.wait(self._longest_stall_s):
                continue
            stack = self._stack()
            if time.monotonic() - asked < self._longest_stall_s + _LATE_S and not self._ended.is_set():
                self.stalls.append(stack)
            while not alive.wait(_PAUSE_S) and not self._ended.is_set():
                continue

    def _stack(self) -> str:
        # Until Python 3.12 it holds a lock without which no thread begins or ends. A finalizer that lets another thread
        # run meanwhile, as that of a gRPC channel does, stops all of them for ever.
        with _no_collection():
            frame = sys._current_frames().get(self._loop_thread)
        return "the loop's thread has ended" if frame is None else "".join(traceback.format_stack(frame))
