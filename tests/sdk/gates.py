"""Tasks that run until the test lets them go."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

from dispatchd import TaskContext, Worker


class Gate:
    """An async task that notes when it began and how it ended."""

    def __init__(self, worker: Worker, job_type: str = "report.render", **bounds: Any) -> None:
        self.running: dict[str, asyncio.Event] = {}
        self.began: list[datetime] = []
        self.contexts: list[TaskContext] = []
        self.ended: dict[str, str] = {}
        self.was_cancelled = asyncio.Event()
        self.most_at_once = 0

        @worker.task(job_type, **bounds)
        async def gate(value: int, context: TaskContext) -> int:
            self.began.append(datetime.now(UTC))
            self.contexts.append(context)
            go = self.running[context.execution_id] = asyncio.Event()
            self.most_at_once = max(self.most_at_once, len(self.running))
            try:
                await go.wait()
                self.ended[context.execution_id] = "finished"
            except asyncio.CancelledError:
                self.ended[context.execution_id] = "cancelled"
                self.was_cancelled.set()
                raise
            finally:
                del self.running[context.execution_id]
            return value

    def let_go(self, *names: str) -> None:
        for name in names:
            self.running[name].set()


class ThreadGate:
    """A plain function."""

    def __init__(self, worker: Worker, job_type: str = "report.compute", **bounds: Any) -> None:
        self._go = threading.Event()
        self.contexts: list[TaskContext] = []

        @worker.task(job_type, **bounds)
        def gate(value: int, context: TaskContext) -> int:
            self.contexts.append(context)
            assert self._go.wait(30)
            return value

    def let_go(self) -> None:
        self._go.set()
