"""What a worker is set up with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.task import Task
from dispatchd.sdk.tls import Tls
from dispatchd.sdk.token import TokenSource
from dispatchd.sdk.worker.context import TaskContext


class UnknownJobType(Exception):
    """A job came whose capability the worker has, but not its type."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Fixed when the worker begins to serve."""

    target: str
    worker_id: str
    max_concurrency: int
    labels: Mapping[str, str]
    tasks: Mapping[str, Task[Any, Any]]
    credentials: grpc.ChannelCredentials | None
    # It may hold an authorization header.
    call_metadata: CallMetadata = field(repr=False)
    token: TokenSource | None
    tls: Tls | None
    drain_timeout_s: float
    stall_limit_s: float

    @property
    def capabilities(self) -> list[str]:
        """The first part of every job type, each once."""
        return sorted({task.capability for task in self.tasks.values()})

    def task_for(self, job_type: str) -> Task[Any, Any]:
        """Return the task for a job type, or one that fails its attempt: another worker may know better."""
        task = self.tasks.get(job_type)
        if task is not None:
            return task
        known = ", ".join(sorted(self.tasks))

        async def refuse(context: TaskContext) -> None:
            raise UnknownJobType(f"worker {self.worker_id} has no task {job_type!r}, only {known}")

        return Task("unknown", refuse)
