"""Runs the async tasks, in the user's event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from dispatchd.sdk.worker.perform import Call, perform
from dispatchd.v1 import dispatchd_pb2 as v1


class Runner:
    """Starts and cancels async tasks as children of the TaskGroup of `serve`. Every method runs in the user's loop."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        context: contextvars.Context,
        began: Callable[[Sequence[str]], None],
        ended: Callable[[str, v1.TaskResult | None], None],
    ):
        self._tasks = tasks
        self._context = context
        self._began = began
        self._ended = ended
        self._running: dict[str, asyncio.Task[v1.TaskResult]] = {}
        self._is_closed = False

    def start(self, calls: Sequence[Call]) -> None:
        """Start these executions."""
        if self._is_closed:
            return
        for call in calls:
            # Each in a copy of the context in which `serve` was called, as if the user had started it there.
            task = self._tasks.create_task(
                perform(call), name=f"execution {call.execution_id}", context=self._context.copy()
            )
            self._running[call.execution_id] = task
            task.add_done_callback(partial(self._done, call.execution_id))
        self._began([call.execution_id for call in calls])

    def cancel(self, execution_ids: Iterable[str]) -> None:
        """Cancel these executions, as far as they still run."""
        for execution_id in execution_ids:
            task = self._running.get(execution_id)
            if task is not None:
                task.cancel()

    def close(self) -> None:
        """Cancel everything and start nothing more."""
        self._is_closed = True
        self.cancel(list(self._running))

    def _done(self, execution_id: str, task: asyncio.Task[v1.TaskResult]) -> None:
        del self._running[execution_id]
        failed = task.cancelled() or task.exception() is not None
        self._ended(execution_id, None if failed else task.result())
