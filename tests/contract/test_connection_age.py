"""Old connections are told to go, not all at once, and take no call with them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import grpc.aio
import pytest

from attacks.connection import RawConnection, connection
from attacks.frames import Kind
from dispatchd.adapters.grpc.call import Call
from grpc_servers import serving
from waiting import until

AGE = timedelta(seconds=1)
CONNECTIONS = 30


class Held:
    """A method that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.peers: list[str] = []

    async def __call__(self, call: Call, request: bytes) -> bytes:
        self.peers.append(call.peer)
        await self.go.wait()
        return request


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
async def port(held: Held) -> AsyncIterator[int]:
    async with serving("Hold", held, connection_age=AGE) as server:
        yield server.port
        held.go.set()


async def told_to_go_at(attacker: RawConnection) -> float:
    """When GOAWAY came, by the clock of the loop."""
    await until(lambda: attacker.received[Kind.GOAWAY] > 0)
    return asyncio.get_running_loop().time()


async def test_connections_of_the_same_age_are_not_told_to_go_at_the_same_moment(port: int) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connection(port)) for _ in range(CONNECTIONS)]
        times = await asyncio.gather(*(told_to_go_at(one) for one in opened))
    # Give or take a tenth of a second; that thirty come within a fiftieth happens once in 10^20 times.
    assert max(times) - min(times) > 0.02


async def test_a_call_ends_on_the_old_connection_while_the_next_begins_on_another(port: int, held: Held) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        hold: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Hold")
        first = hold(b"first", timeout=15.0)
        await until(lambda: len(held.peers) == 1)
        while len(set(held.peers)) == 1:
            further = hold(b"further", timeout=15.0)
            seen = len(held.peers)
            await until(lambda seen=seen: len(held.peers) > seen)  # type: ignore[misc]
            further.cancel()
        assert not first.done()
        held.go.set()
        assert await first == b"first"
