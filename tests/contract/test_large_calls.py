"""Calls that are larger than allowed: the answer says so, before anything of the call is looked at."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from dispatchd.adapters.grpc.call import Call
from dispatchd.domain import limits
from grpc_servers import address_of, serving

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A server that says how long a request is."""

    async def measure(_: Call, request: bytes) -> bytes:
        return str(len(request)).encode()

    async with serving("Measure", measure) as server, grpc.aio.insecure_channel(address_of(server)) as channel:
        yield channel


async def call(channel: grpc.aio.Channel, request_bytes: int, header_bytes: int) -> bytes | grpc.StatusCode:
    measure: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Measure")
    try:
        return await measure(bytes(request_bytes), metadata=(("x-large", "a" * header_bytes),), timeout=15.0)
    except grpc.aio.AioRpcError as error:
        return error.code()


async def test_a_request_may_have_4_mib_and_its_headers_16_kib(channel: grpc.aio.Channel) -> None:
    most = limits.REQUEST_BYTES
    assert await call(channel, most, 0) == str(most).encode()
    assert await call(channel, most + 1, 0) is RESOURCE_EXHAUSTED
    # The client has headers of its own.
    assert await call(channel, 1, limits.HEADER_BYTES - 1_000) == b"1"
    assert await call(channel, 1, limits.HEADER_BYTES) is RESOURCE_EXHAUSTED
    assert await call(channel, 2, 0) == b"2", "the connection goes on"
