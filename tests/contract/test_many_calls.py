"""Calls at once: so many are served, on a server and on one connection of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from dispatchd.adapters.grpc import transport
from dispatchd.adapters.grpc.call import Call
from grpc_servers import address_of, serving
from waiting import until

OK = grpc.StatusCode.OK
LONGEST_CALL_S = 15.0


class Held:
    """A method that answers when it is told to."""

    def __init__(self) -> None:
        self.under_way = 0
        self.go = asyncio.Event()

    async def __call__(self, _: Call, request: bytes) -> bytes:
        self.under_way += 1
        await self.go.wait()
        return request


@asynccontextmanager
async def server_with(held: Held) -> AsyncIterator[str]:
    async with serving("Hold", held) as server:
        yield address_of(server)
        held.go.set()


def calls(channel: grpc.aio.Channel, count: int) -> list[grpc.aio.UnaryUnaryCall[bytes, bytes]]:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Hold")
    return [method(b"%d" % number, timeout=LONGEST_CALL_S) for number in range(count)]


async def test_a_call_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CONCURRENT_CALLS", 5)
    held = Held()
    async with server_with(held) as address, grpc.aio.insecure_channel(address) as channel:
        begun = calls(channel, 5)
        await until(lambda: held.under_way == 5)
        [further] = calls(channel, 1)
        assert await further.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held.go.set()
        assert await asyncio.gather(*begun) == [b"%d" % number for number in range(5)]
        assert await asyncio.gather(*calls(channel, 5)) == [b"%d" % number for number in range(5)]


async def test_a_connection_has_no_more_than_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much waits in its client. When a place becomes free, gRPC's two sides don't always agree at once."""
    monkeypatch.setattr(transport, "CALLS_PER_CONNECTION", 3)
    held = Held()
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        server_with(held) as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
        grpc.aio.insecure_channel(address, options=options) as other,
    ):
        begun = calls(channel, 5)
        await until(lambda: held.under_way == 3)
        # Those of another connection are served meanwhile.
        others = calls(other, 3)
        await until(lambda: held.under_way == 6)
        held.go.set()
        assert await asyncio.gather(*others) == [b"0", b"1", b"2"]
        codes = [await call.code() for call in begun]
        assert codes.count(OK) >= 3
        assert set(codes) <= {OK, grpc.StatusCode.UNAVAILABLE}
