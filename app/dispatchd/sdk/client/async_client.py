"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload

import grpc

from dispatchd.sdk.channel import (
    CallMetadata,
    checked_tls,
    open_client_channel,
    to_call_metadata,
)
from dispatchd.sdk.client.operator import OperatorCalls
from dispatchd.sdk.client.page import Page, every_item
from dispatchd.sdk.client.result import result_of
from dispatchd.sdk.client.retrying import call_until_available, deadline_in
from dispatchd.sdk.client.submission import Submission, SubmitOptions
from dispatchd.sdk.client.submitting import Submitter
from dispatchd.sdk.client.tls_channel import TlsChannel
from dispatchd.sdk.client.token_channel import TokenChannel, UnaryChannel
from dispatchd.sdk.client.wait_connections import WaitConnections
from dispatchd.sdk.client.waiting import JobWaiter
from dispatchd.sdk.durations import Seconds, seconds
from dispatchd.sdk.errors import ClientClosed, DispatchdError
from dispatchd.sdk.from_wire import execution_from, job_from
from dispatchd.sdk.job import Execution, Job, ReadyQueue, RegisteredWorker
from dispatchd.sdk.plain_token import warn_of_plain_token
from dispatchd.sdk.task import Task
from dispatchd.sdk.tls import FollowedTls, Tls
from dispatchd.sdk.token import Token, TokenSource, checked_token, token_source
from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1.dispatchd_pb2_grpc import JobServiceStub, OperatorServiceStub

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import JobServiceAsyncStub

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

DEFAULT_CALL_TIMEOUT_S = 30.0


class AsyncClient:
    """Submits, reads, awaits and cancels jobs. Use it as `async with AsyncClient("localhost:8080") as client:`.

    `call_timeout` bounds each call with all its retries. `call_metadata` goes with every call. `token` says who calls:
    a string, a path (the file is read again when it changes), or a function that returns a token, asked once and then
    whenever that is about to expire or is refused. `tls` encrypts the connection; `credentials` are gRPC's own, in its
    place. Without both the connection is not encrypted. Concurrent `submit` calls travel together, which makes them
    many times cheaper than one call each.
    """

    def __init__(
        self,
        target: str = "localhost:8080",
        *,
        call_timeout: Seconds = DEFAULT_CALL_TIMEOUT_S,
        call_metadata: Mapping[str, str] | None = None,
        token: Token | None = None,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        self.target = target
        self._tls = checked_tls(tls, credentials)
        self._credentials = credentials
        self._call_timeout_s = seconds(call_timeout, "call_timeout")
        self._call_metadata = dict(call_metadata or {})
        self._headers = to_call_metadata(call_metadata)
        self._token = checked_token(token, self._headers)
        self._open: _Open | None = None

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise ClientClosed("the client is open already")
        is_encrypted = self._tls is not None or self._credentials is not None
        warn_of_plain_token(self.target, self._token, self._headers, is_encrypted=is_encrypted)
        token = None if self._token is None else token_source(self._token)
        self._open = _Open(await self._channel(token), partial(self._channel, token, own_connection=True))
        await self._open.flights.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._open = self._opened(), None
        opened.submitter.close()
        try:
            # Without the body's exception, which would come out wrapped in a group: flights never raise.
            await opened.flights.__aexit__(None, None, None)
        finally:
            await opened.wait_connections.close()
            await opened.channel.close()

    @overload
    async def submit(
        self,
        task: Task[PayloadT, Any],
        payload: PayloadT,
        /,
        *,
        call_timeout: Seconds | None = None,
        call_metadata: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job: ...

    @overload
    async def submit(
        self,
        job_type: str,
        payload: Any,
        /,
        *,
        call_timeout: Seconds | None = None,
        call_metadata: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job: ...

    async def submit(
        self,
        job_type: str | Task[Any, Any],
        payload: Any,
        /,
        *,
        call_timeout: Seconds | None = None,
        call_metadata: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Store a job durably and return it. With a key that is known, return the first job that was given it.

        `bytes` is sent as it is, anything else as JSON. `DeadlineExceeded` and `Unavailable` leave open whether the
        job was stored; submit it again with the same `idempotency_key` to find out.
        """
        submission = Submission(job_type=job_type, payload=payload, **options)
        submitter = self._opened().submitter
        return await submitter.submit(submission, self._timeout_s(call_timeout), self._with(call_metadata))

    async def submit_many(
        self, submissions: Iterable[Submission], *, call_timeout: Seconds | None = None
    ) -> list[Job | DispatchdError]:
        """Store any number of jobs, in order, and return a job or an error for each. Not atomic.

        It is sent in calls of at most 1,000 items and 1 MiB; `call_timeout` is for each of them.
        """
        submitter = self._opened().submitter
        return await submitter.submit_many(submissions, self._timeout_s(call_timeout), self._headers)

    async def get(self, job: Job | str, *, call_timeout: Seconds | None = None) -> Job:
        """Return a job as it is now."""
        request = v1.GetJobRequest(job_id=_id_of(job))
        deadline = deadline_in(self._timeout_s(call_timeout))
        return job_from((await call_until_available(self._opened().jobs.GetJob, request, deadline, self._headers)).job)

    async def wait(self, job: Job | str, *, timeout: Seconds | None = None) -> Job:
        """Return a job once it has succeeded, failed or been canceled.

        `DeadlineExceeded` if that takes longer than `timeout`; its `job` is the last state that was seen.
        """
        timeout_s = None if timeout is None else seconds(timeout, "timeout")
        return await self._opened().waiter.wait(_id_of(job), timeout_s, self._call_timeout_s, self._headers)

    @overload
    async def result(
        self, job: Job | str, returns: Task[Any, ResultT], *, timeout: Seconds | None = None
    ) -> ResultT: ...

    @overload
    async def result(self, job: Job | str, returns: type[ResultT], *, timeout: Seconds | None = None) -> ResultT: ...

    @overload
    async def result(self, job: Job | str, returns: None = None, *, timeout: Seconds | None = None) -> Any: ...

    async def result(self, job: Job | str, returns: Any = None, *, timeout: Seconds | None = None) -> Any:
        """Wait for a job and return what its worker returned, read as `returns`: a task, a type, or else any JSON.

        `JobFailed` or `JobCanceled` if it did not succeed, `ResultMismatch` if the result does not fit.
        """
        return result_of(await self.wait(job, timeout=timeout), returns)

    async def cancel(self, job: Job | str, *, call_timeout: Seconds | None = None) -> Job:
        """End a waiting or running job at once and return it. A job that has already ended is returned unchanged."""
        request = v1.CancelJobRequest(job_id=_id_of(job))
        deadline = deadline_in(self._timeout_s(call_timeout))
        response = await call_until_available(self._opened().jobs.CancelJob, request, deadline, self._headers)
        return job_from(response.job)

    def executions(self, job: Job | str, *, page_size: int = 0) -> AsyncIterator[Execution]:
        """Yield the executions of a job, oldest first."""
        return every_item(lambda token: self.executions_page(job, token, page_size=page_size))

    def dead_letters(self, job_type: str | None = None, *, page_size: int = 0) -> AsyncIterator[Job]:
        """Yield failed jobs, the last to fail first, without payload, metadata and result."""
        return every_item(lambda token: self.dead_letters_page(job_type, token, page_size=page_size))

    def workers(self, *, page_size: int = 0) -> AsyncIterator[RegisteredWorker]:
        """Yield the workers in the registry, by id."""
        return every_item(lambda token: self.workers_page(token, page_size=page_size))

    async def queues(self) -> list[ReadyQueue]:
        """Return the ready queues that are not empty, by capability."""
        return await self._opened().operator.queues(self._call_timeout_s, self._headers)

    async def redrive(self, jobs: Sequence[Job | str]) -> list[Job | DispatchdError]:
        """Give dead letters a new budget of attempts and queue them; a job or an error for each, in order."""
        ids = [_id_of(job) for job in jobs]
        return await self._opened().operator.redrive(ids, self._call_timeout_s, self._headers)

    async def executions_page(self, job: Job | str, page_token: str = "", *, page_size: int = 0) -> Page[Execution]:
        """Return one page of `executions`; `page_size` 0 leaves the size to the server."""
        request = v1.ListExecutionsRequest(job_id=_id_of(job), page_size=page_size, page_token=page_token)
        deadline = deadline_in(self._call_timeout_s)
        response = await call_until_available(self._opened().jobs.ListExecutions, request, deadline, self._headers)
        return Page([execution_from(execution) for execution in response.executions], response.next_page_token)

    async def dead_letters_page(
        self, job_type: str | None = None, page_token: str = "", *, page_size: int = 0
    ) -> Page[Job]:
        """Return one page of `dead_letters`."""
        operator = self._opened().operator
        return await operator.dead_letters(job_type, page_token, page_size, self._call_timeout_s, self._headers)

    async def workers_page(self, page_token: str = "", *, page_size: int = 0) -> Page[RegisteredWorker]:
        """Return one page of `workers`."""
        return await self._opened().operator.workers(page_token, page_size, self._call_timeout_s, self._headers)

    async def _channel(self, token: TokenSource | None, *, own_connection: bool = False) -> UnaryChannel:
        open_channel = partial(open_client_channel, self.target, own_connection=own_connection)
        channel: UnaryChannel
        if self._tls is None:
            channel = open_channel(self._credentials)
        else:
            channel = TlsChannel(open_channel, await asyncio.to_thread(FollowedTls, self._tls))
        return channel if token is None else TokenChannel(channel, token)

    def _opened(self) -> _Open:
        if self._open is None:
            raise ClientClosed(f"open the client first: async with {type(self).__name__}({self.target!r}) as client")
        return self._open

    def _timeout_s(self, call_timeout: Seconds | None) -> float:
        return self._call_timeout_s if call_timeout is None else seconds(call_timeout, "call_timeout")

    def _with(self, call_metadata: Mapping[str, str] | None) -> CallMetadata:
        return self._headers if call_metadata is None else to_call_metadata(self._call_metadata | dict(call_metadata))


class _Open:
    """What exists between entering and leaving the client."""

    def __init__(self, channel: UnaryChannel, open_another: Callable[[], Awaitable[UnaryChannel]]):
        # Stubs use nothing else of a channel.
        self.channel = cast("grpc.aio.Channel", channel)
        self.jobs: JobServiceAsyncStub = JobServiceStub(self.channel)
        self.flights = asyncio.TaskGroup()
        self.submitter = Submitter(self.jobs, self.flights)
        self.wait_connections = WaitConnections(channel, open_another)
        self.waiter = JobWaiter(self.wait_connections)
        self.operator = OperatorCalls(OperatorServiceStub(self.channel))


def _id_of(job: Job | str) -> str:
    return job.job_id if isinstance(job, Job) else job
