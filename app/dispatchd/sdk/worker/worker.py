"""The worker that users build: tasks by decorator, then `run` or `serve`."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar, overload

import grpc

from dispatchd.sdk.channel import checked_tls, to_call_metadata
from dispatchd.sdk.durations import Seconds, seconds
from dispatchd.sdk.loop_thread import LoopThread, new_event_loop
from dispatchd.sdk.plain_token import warn_of_plain_token
from dispatchd.sdk.task import Task
from dispatchd.sdk.tls import Tls
from dispatchd.sdk.token import AUTHORIZATION, Token, checked_token, token_source
from dispatchd.sdk.worker.context import TaskContext
from dispatchd.sdk.worker.settings import WorkerSettings
from dispatchd.sdk.worker.shift import Shift
from dispatchd.sdk.worker.stop_signals import StopSignals

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

MAX_CONCURRENCY = 1_000
STALL_LIMIT_S = 300.0
# Leaves a few of the 30 s that Kubernetes and others give, to cancel and give back what is not finished by then.
DRAIN_TIMEOUT_S = 20.0
THREAD_END_TIMEOUT_S = 5.0


class TaskDecorator(Protocol):
    """Makes a task of a function that takes a payload and, if it likes, a `TaskContext`."""

    @overload
    def __call__(self, function: Callable[[PayloadT], Coroutine[Any, Any, ResultT]], /) -> Task[PayloadT, ResultT]: ...

    @overload
    def __call__(
        self, function: Callable[[PayloadT, TaskContext], Coroutine[Any, Any, ResultT]], /
    ) -> Task[PayloadT, ResultT]: ...

    @overload
    def __call__(self, function: Callable[[], Coroutine[Any, Any, ResultT]], /) -> Task[None, ResultT]: ...

    @overload
    def __call__(self, function: Callable[[PayloadT], ResultT], /) -> Task[PayloadT, ResultT]: ...

    @overload
    def __call__(self, function: Callable[[PayloadT, TaskContext], ResultT], /) -> Task[PayloadT, ResultT]: ...

    @overload
    def __call__(self, function: Callable[[], ResultT], /) -> Task[None, ResultT]: ...


class Worker:
    """Runs functions as tasks, at most `max_concurrency` at once.

    `target` is a worker-gateway. `worker_id` must be unique among living workers; without one it is made of the host's
    name and random bits. `labels` are shown to operators. `drain_timeout` is how long a stopping worker lets tasks
    finish. When a task blocks the event loop for longer than `stall_limit`, the worker's leases are no longer renewed.
    `token` says who connects: a string, a path (the file is read again when it changes), or a function that returns a
    token, asked once and then whenever that is about to expire or is refused. `tls` encrypts the connection;
    `credentials` are gRPC's own, in its place.
    """

    def __init__(
        self,
        target: str = "localhost:8081",
        *,
        worker_id: str | None = None,
        max_concurrency: int = 10,
        labels: Mapping[str, str] | None = None,
        drain_timeout: Seconds = DRAIN_TIMEOUT_S,
        stall_limit: Seconds = STALL_LIMIT_S,
        token: Token | None = None,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        call_metadata: Mapping[str, str] | None = None,
    ):
        if not 1 <= max_concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"max_concurrency must be from 1 to {MAX_CONCURRENCY}, not {max_concurrency}")
        self.target = target
        self.worker_id = worker_id or f"{socket.gethostname()[:180]}-{secrets.token_hex(4)}"
        self.max_concurrency = max_concurrency
        self.labels = dict(labels or {})
        self._drain_timeout_s = seconds(drain_timeout, "drain_timeout")
        self._stall_limit_s = seconds(stall_limit, "stall_limit")
        self._tls = checked_tls(tls, credentials)
        self._credentials = credentials
        self._call_metadata = to_call_metadata(call_metadata)
        self._token = checked_token(token, self._call_metadata)
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._shift: Shift | None = None
        self._is_drain_asked = False

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any]]:
        """The tasks by job type."""
        return self._tasks

    def use(self, *, token: Token | None = None, tls: Tls | None = None) -> None:
        """Take another token or other files for TLS from the next `serve` on; what is None stays as it is."""
        if token is not None:
            self._call_metadata = tuple(header for header in self._call_metadata if header[0] != AUTHORIZATION)
            self._token = checked_token(token, self._call_metadata)
        if tls is not None:
            self._tls, self._credentials = tls, None

    def task(self, job_type: str, *, timeout: Seconds | None = None, max_attempts: int | None = None) -> TaskDecorator:
        """Decorate a function as the task for a job type.

        An `async def` runs in the event loop of `serve`, a plain function in a thread. `timeout` and `max_attempts`
        bound what jobs say, never raise it, and are the defaults of `client.submit(task, ...)`.
        """

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            task: Task[Any, Any] = Task(job_type, function, timeout=timeout, max_attempts=max_attempts)
            if job_type in self._tasks:
                raise ValueError(f"this worker has a task for {job_type!r} already")
            self._tasks[job_type] = task
            return task

        return decorate

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, in an event loop of its own.

        The first signal drains. The second stops at once: what runs is interrupted, and two seconds later, or at the
        third signal, the process ends whatever happens. Its exit code is 128 + signal then.
        """
        signals = StopSignals(drain=self.drain, stop=self.stop)
        with signals.handled():
            try:
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    runner.run(self.serve())
            except KeyboardInterrupt:
                if signals.exit_code is None:
                    raise
                raise SystemExit(signals.exit_code) from None

    async def serve(self) -> None:
        """Serve in the running event loop until `drain` or `stop` is called, or this task is cancelled.

        Cancelling it cancels the running tasks and gives them back. `WorkerSuperseded` if another process takes over
        this worker's id; other errors if the first registration is refused for good.
        """
        if not self._tasks:
            raise ValueError("the worker has no tasks: decorate a function with @worker.task(...) first")
        if self._shift is not None:
            raise RuntimeError("the worker is serving already")
        is_encrypted = self._tls is not None or self._credentials is not None
        warn_of_plain_token(self.target, self._token, self._call_metadata, is_encrypted=is_encrypted)
        thread = LoopThread(f"dispatchd worker {self.worker_id}")
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as user_tasks:
                shift = Shift(self._settings(), thread.start(), asyncio.get_running_loop(), user_tasks)
                self._shift = shift
                if self._is_drain_asked:
                    shift.drain()
                over = asyncio.wrap_future(thread.submit(shift.run, "shift"))
                try:
                    await _until_over(over, shift)
                except Exception as error:
                    failure = error  # raised below, outside of the group that would wrap it
                finally:
                    shift.stop()
                    shift.runner.close()
        finally:
            self._shift = None
            self._is_drain_asked = False
            await asyncio.to_thread(thread.close, THREAD_END_TIMEOUT_S)
        if failure is not None:
            raise failure

    def drain(self) -> None:
        """Take nothing new, finish what is held within the drain timeout, and let `serve` return. From any thread."""
        self._is_drain_asked = True
        if self._shift is not None:
            self._shift.drain()

    def stop(self) -> None:
        """Cancel everything and let `serve` return at once; leases run out by themselves. From any thread."""
        if self._shift is not None:
            self._shift.stop()

    def _settings(self) -> WorkerSettings:
        return WorkerSettings(
            target=self.target,
            worker_id=self.worker_id,
            max_concurrency=self.max_concurrency,
            labels=self.labels,
            tasks=dict(self._tasks),
            tls=self._tls,
            credentials=self._credentials,
            call_metadata=self._call_metadata,
            token=None if self._token is None else token_source(self._token, asyncio.get_running_loop()),
            drain_timeout_s=self._drain_timeout_s,
            stall_limit_s=self._stall_limit_s,
        )


async def _until_over(over: asyncio.Future[None], shift: Shift) -> None:
    try:
        await asyncio.shield(over)
    except asyncio.CancelledError:
        if over.done():
            raise
        shift.drain(hurry=True)
        # Bounded by the drain's own times; a second cancellation ends it at once.
        await asyncio.wait([over])
        raise
