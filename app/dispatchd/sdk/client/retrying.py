"""Calls that are safe to repeat are repeated while the server is unavailable, within one total deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc.aio

from dispatchd.sdk.backoff import Backoff
from dispatchd.sdk.channel import CallMetadata
from dispatchd.sdk.errors import ClientClosed, DeadlineExceeded, Overloaded, Unavailable
from dispatchd.sdk.grpc_status import error_from, refusal_of_call

AnswerT = TypeVar("AnswerT")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0


def deadline_in(timeout_s: float) -> float:
    """Return the time of the running loop's clock at which `timeout_s` will be over."""
    return asyncio.get_running_loop().time() + timeout_s


async def until_available(
    attempt: Callable[[], Awaitable[AnswerT]],
    deadline: float,
    passing: tuple[type[Unavailable | Overloaded], ...] = (Unavailable,),
) -> AnswerT:
    """Return what `attempt` returns, repeating it after a jittered backoff while it raises a `passing` error.

    The last such error is raised when the next try would come after the deadline, `DeadlineExceeded` when the deadline
    comes during a try. A delay that the server asked for is kept.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    backoff = Backoff(FIRST_BACKOFF_S, LONGEST_BACKOFF_S)
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    return await attempt()
                except passing as error:
                    delay_s = backoff.next_s()
                    if error.retry_after is not None:
                        delay_s = max(delay_s, error.retry_after.total_seconds())
                    if clock() + delay_s >= deadline:
                        raise
                    await asyncio.sleep(delay_s)
    except TimeoutError as exc:
        raise DeadlineExceeded(f"no answer within {deadline - began:.3g} s") from exc


async def call_once(
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    deadline: float,
    call_metadata: CallMetadata,
) -> ResponseT:
    """Make one unary call and translate its refusal."""
    timeout_s = max(deadline - asyncio.get_running_loop().time(), 0.0)
    try:
        return await method(request, timeout=timeout_s, metadata=grpc.aio.Metadata(*call_metadata))
    except grpc.aio.AioRpcError as error:
        raise error_from(refusal_of_call(error)) from error
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # gRPC says so to whoever is left when the channel is closed, though nobody cancelled this task.
        raise ClientClosed("the client was closed during the call") from exc


async def call_until_available(
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    deadline: float,
    call_metadata: CallMetadata,
) -> ResponseT:
    """Make a unary call that is safe to repeat, as often as `until_available` allows."""
    return await until_available(lambda: call_once(method, request, deadline, call_metadata), deadline)
