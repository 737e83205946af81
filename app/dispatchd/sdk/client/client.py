"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import grpc

from dispatchd.sdk.client.async_client import DEFAULT_CALL_TIMEOUT_S, AsyncClient
from dispatchd.sdk.client.page import FetchPage
from dispatchd.sdk.client.submission import Submission, SubmitOptions
from dispatchd.sdk.durations import Seconds
from dispatchd.sdk.errors import ClientClosed, DispatchdError
from dispatchd.sdk.job import Execution, Job, ReadyQueue, RegisteredWorker
from dispatchd.sdk.loop_thread import LoopThread
from dispatchd.sdk.task import Task
from dispatchd.sdk.tls import Tls
from dispatchd.sdk.token import Token

AnswerT = TypeVar("AnswerT")
ItemT = TypeVar("ItemT")
PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

CLOSE_TIMEOUT_S = 5.0


class Client:
    """`AsyncClient` for programs without an event loop: the same calls, each waiting for its answer.

    Use it as `with Client("localhost:8080") as client:`, from any number of threads; their concurrent submits travel
    together.
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
        self._client = AsyncClient(
            target,
            call_timeout=call_timeout,
            call_metadata=call_metadata,
            token=token,
            tls=tls,
            credentials=credentials,
        )
        self._open: _Open | None = None

    def __enter__(self) -> Self:
        if self._open is not None:
            raise ClientClosed("the client is open already")
        self._open = _Open(self._client)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened, self._open = self._opened(), None
        opened.close()

    @overload
    def submit(
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
    def submit(
        self,
        job_type: str,
        payload: Any,
        /,
        *,
        call_timeout: Seconds | None = None,
        call_metadata: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job: ...

    def submit(
        self,
        job_type: Any,
        payload: Any,
        /,
        *,
        call_timeout: Seconds | None = None,
        call_metadata: Mapping[str, str] | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Store a job durably and return it; see `AsyncClient.submit`."""
        return self._call(
            lambda: self._client.submit(
                job_type, payload, call_timeout=call_timeout, call_metadata=call_metadata, **options
            )
        )

    def submit_many(
        self, submissions: Iterable[Submission], *, call_timeout: Seconds | None = None
    ) -> list[Job | DispatchdError]:
        """Store any number of jobs, in order, and return a job or an error for each; see `AsyncClient.submit_many`."""
        # Consumed here: the caller's iterator must run in the caller's thread.
        every = list(submissions)
        return self._call(lambda: self._client.submit_many(every, call_timeout=call_timeout))

    def get(self, job: Job | str, *, call_timeout: Seconds | None = None) -> Job:
        """Return a job as it is now."""
        return self._call(lambda: self._client.get(job, call_timeout=call_timeout))

    def wait(self, job: Job | str, *, timeout: Seconds | None = None) -> Job:
        """Return a job once it has ended; `DeadlineExceeded` if that takes longer than `timeout`."""
        return self._call(lambda: self._client.wait(job, timeout=timeout))

    @overload
    def result(self, job: Job | str, returns: Task[Any, ResultT], *, timeout: Seconds | None = None) -> ResultT: ...

    @overload
    def result(self, job: Job | str, returns: type[ResultT], *, timeout: Seconds | None = None) -> ResultT: ...

    @overload
    def result(self, job: Job | str, returns: None = None, *, timeout: Seconds | None = None) -> Any: ...

    def result(self, job: Job | str, returns: Any = None, *, timeout: Seconds | None = None) -> Any:
        """Wait for a job and return what its worker returned; see `AsyncClient.result`."""
        return self._call(lambda: self._client.result(job, returns, timeout=timeout))

    def cancel(self, job: Job | str, *, call_timeout: Seconds | None = None) -> Job:
        """End a waiting or running job at once and return it. A job that has already ended is returned unchanged."""
        return self._call(lambda: self._client.cancel(job, call_timeout=call_timeout))

    def executions(self, job: Job | str, *, page_size: int = 0) -> Iterator[Execution]:
        """Yield the executions of a job, oldest first."""
        return self._every_item(lambda token: self._client.executions_page(job, token, page_size=page_size))

    def dead_letters(self, job_type: str | None = None, *, page_size: int = 0) -> Iterator[Job]:
        """Yield failed jobs, the last to fail first, without payload, metadata and result."""
        return self._every_item(lambda token: self._client.dead_letters_page(job_type, token, page_size=page_size))

    def workers(self, *, page_size: int = 0) -> Iterator[RegisteredWorker]:
        """Yield the workers in the registry, by id."""
        return self._every_item(lambda token: self._client.workers_page(token, page_size=page_size))

    def queues(self) -> list[ReadyQueue]:
        """Return the ready queues that are not empty, by capability."""
        return self._call(self._client.queues)

    def redrive(self, jobs: Sequence[Job | str]) -> list[Job | DispatchdError]:
        """Give dead letters a new budget of attempts and queue them; a job or an error for each, in order."""
        return self._call(lambda: self._client.redrive(jobs))

    def _every_item(self, fetch: FetchPage[ItemT]) -> Iterator[ItemT]:
        page = self._call(partial(fetch, ""))
        yield from page.items
        while page.next_token:
            page = self._call(partial(fetch, page.next_token))
            yield from page.items

    def _call(self, work: Callable[[], Coroutine[Any, Any, AnswerT]]) -> AnswerT:
        return self._opened().thread.call(work, "client call")

    def _opened(self) -> _Open:
        if self._open is None:
            raise ClientClosed(f"open the client first: with {type(self).__name__}({self.target!r}) as client")
        return self._open


class _Open:
    """The thread, and the one task in it that holds the asynchronous client open."""

    def __init__(self, client: AsyncClient):
        self._client = client
        self._entered: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.thread = LoopThread("dispatchd client")
        self.thread.start()
        self._holding = self.thread.submit(self._hold, "open client")
        try:
            self._entered.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._holding.cancel()
        self.thread.close(CLOSE_TIMEOUT_S)

    async def _hold(self) -> None:
        try:
            await self._client.__aenter__()
        except Exception as error:
            self._entered.set_exception(error)
            return
        try:
            self._entered.set_result(None)
            await asyncio.get_running_loop().create_future()  # until cancelled by close()
        finally:
            await self._client.__aexit__(None, None, None)
