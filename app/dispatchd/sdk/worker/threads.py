"""Threads for plain functions."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class TaskThreads:
    """Runs functions in daemon threads, started when they are needed and kept for the next function.

    Not a ThreadPoolExecutor: the interpreter would wait at its exit for a function that nobody can stop, and the worker
    promises to leave in time. The caller's slots bound how many functions run, and so how many threads there are.
    Only one thread may call `run` and `close`.
    """

    def __init__(self, name: str):
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def run(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, in an idle thread or a new one."""
        self._work.put(work)
        if not self._idle.acquire(blocking=False):
            self._started += 1
            threading.Thread(target=self._serve, name=f"{self._name} {self._started}", daemon=True).start()

    def close(self) -> None:
        """End each thread when its function has returned; waits for none of them."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # so that an idle thread keeps nobody's payload alive
            self._idle.release()
