"""Connections for calls that wait: a server serves only so many calls of one connection at once, and others would have
to wait for their end.

    wait ──► has a connection room? ──yes──► its stub
                      └─no─► one more connection
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import grpc.aio

from dispatchd.sdk.client.token_channel import UnaryChannel
from dispatchd.v1.dispatchd_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import JobServiceAsyncStub

WAITS_PER_CONNECTION = 1_000


class _Connection:
    def __init__(self, channel: UnaryChannel):
        self.channel = channel
        # Stubs use nothing else of a channel.
        self.stub: JobServiceAsyncStub = JobServiceStub(cast("grpc.aio.Channel", channel))
        self.waits = 0


class WaitConnections:
    """First the connection that the client has anyway, then as many more as were ever needed at once."""

    def __init__(self, first: UnaryChannel, open_another: Callable[[], Awaitable[UnaryChannel]]):
        self._open_another = open_another
        self._connections = [_Connection(first)]
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[JobServiceAsyncStub]:
        """Give the stub for one call that waits."""
        connection = self._with_room() or await self._another()
        connection.waits += 1
        try:
            yield connection.stub
        finally:
            connection.waits -= 1

    async def close(self) -> None:
        """End all calls and every connection but the first, which is the client's."""
        for connection in self._connections[1:]:
            await connection.channel.close()

    def _with_room(self) -> _Connection | None:
        return next((each for each in self._connections if each.waits < WAITS_PER_CONNECTION), None)

    async def _another(self) -> _Connection:
        async with self._opening:
            # Somebody else may have opened it meanwhile.
            found = self._with_room()
            if found is None:
                found = _Connection(await self._open_another())
                self._connections.append(found)
            return found
