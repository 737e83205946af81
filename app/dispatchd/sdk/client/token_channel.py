"""The channel of a client with a token: the token joins each call when it goes out.

    call ──► token of the moment ──► server ──UNAUTHENTICATED──► is there another token? ──yes──► once more
                                                                            └─no─► the refusal is raised

So the calls that wait for each other, such as gathered submits, need not know about tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio

from dispatchd.sdk.errors import DeadlineExceeded
from dispatchd.sdk.token import AUTHORIZATION, TokenSource

AnswerT = TypeVar("AnswerT")
Method: TypeAlias = Callable[..., Awaitable[Any]]


class UnaryChannel(Protocol):
    """What stubs for unary calls use of a channel."""

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Method:
        """Return what makes calls of one method."""

    async def close(self) -> None:
        """End all calls and the connection."""


class TokenChannel:
    """Fulfils `UnaryChannel` on top of another one."""

    def __init__(self, channel: UnaryChannel, token: TokenSource):
        self._channel = channel
        self._token = token

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Method:
        """Return what makes calls of one method; a call with an `authorization` header of its own keeps that."""
        send = self._channel.unary_unary(method, *args, **options)

        async def call(request: Any, *, timeout: float, metadata: grpc.aio.Metadata) -> Any:
            if any(name == AUTHORIZATION for name, _ in metadata):
                return await send(request, timeout=timeout, metadata=metadata)
            clock = asyncio.get_running_loop().time
            deadline = clock() + timeout
            token = await _until(deadline, self._token.current())
            try:
                return await send(request, timeout=max(deadline - clock(), 0.0), metadata=_bearing(metadata, token))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                    raise
                other = await _until(deadline, self._token.other_than(token))
                if other is None:
                    raise
            return await send(request, timeout=max(deadline - clock(), 0.0), metadata=_bearing(metadata, other))

        return call

    async def close(self) -> None:
        """End all calls and the connection."""
        await self._channel.close()


def _bearing(metadata: grpc.aio.Metadata, token: str) -> grpc.aio.Metadata:
    return grpc.aio.Metadata(*metadata, (AUTHORIZATION, f"Bearer {token}"))


async def _until(deadline: float, waiting: Awaitable[AnswerT]) -> AnswerT:
    try:
        async with asyncio.timeout_at(deadline):
            return await waiting
    except TimeoutError as exc:
        raise DeadlineExceeded("there was no token in time: the function that returns it takes too long") from exc
