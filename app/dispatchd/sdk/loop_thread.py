"""An event loop in a thread of its own, for callers without a loop and for work that their loop must not hold up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:  # there is no uvloop for Windows
    new_event_loop = asyncio.new_event_loop

AnswerT = TypeVar("AnswerT")


class LoopThread:
    """A daemon thread that runs coroutines as named children of one TaskGroup. Every method may be called anywhere."""

    def __init__(self, name: str):
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._stop = asyncio.Event()
        self._group = asyncio.TaskGroup()

    def start(self) -> asyncio.AbstractEventLoop:
        """Start the thread and return its loop, running."""
        self._thread.start()
        return self._started.result()

    def submit(self, work: Callable[[], Coroutine[Any, Any, AnswerT]], name: str) -> concurrent.futures.Future[AnswerT]:
        """Run the coroutine that `work` makes. Cancelling the future cancels it."""
        future: concurrent.futures.Future[AnswerT] = concurrent.futures.Future()
        loop = self._started.result()

        def begin() -> None:
            settling = _settle(work, future)
            try:
                task = self._group.create_task(settling, name=name)
            except RuntimeError as error:  # the group has ended
                settling.close()
                _settle_once(future, error)
                return
            future.add_done_callback(lambda done: done.cancelled() and loop.call_soon_threadsafe(task.cancel))

        loop.call_soon_threadsafe(begin)
        return future

    def call(self, work: Callable[[], Coroutine[Any, Any, AnswerT]], name: str) -> AnswerT:
        """Run the coroutine that `work` makes and wait for its answer, which the coroutine itself must bound."""
        future = self.submit(work, name)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, timeout_s: float) -> None:
        """Let what still runs end, and the thread with it; give up waiting for it after `timeout_s`."""
        self._started.result().call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        if sys.platform != "win32":
            # The kernel may give a signal to any thread, and only the main thread wakes up to look at it. Threads
            # started from here do the same: those of gRPC, and one for the program's function that returns a token.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        async with self._group:
            self._started.set_result(asyncio.get_running_loop())
            await self._stop.wait()


async def _settle(work: Callable[[], Coroutine[Any, Any, AnswerT]], future: concurrent.futures.Future[AnswerT]) -> None:
    try:
        answer = await work()
    except asyncio.CancelledError:
        future.cancel()
        raise
    except Exception as error:  # handed to whoever waits for the future
        _settle_once(future, error)
    else:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            future.set_result(answer)


def _settle_once(future: concurrent.futures.Future[AnswerT], error: Exception) -> None:
    with contextlib.suppress(concurrent.futures.InvalidStateError):  # it was cancelled meanwhile
        future.set_exception(error)
