"""The headers of calls: how many are taken, and that gRPC's copies of them are freed before they are many."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import grpc
import grpc.aio
import pytest

from dispatchd.adapters.grpc.call import Call
from dispatchd.adapters.grpc.headers import LEFT_BYTES, HeaderReader
from dispatchd.domain import limits
from grpc_servers import address_of, serving

LARGE = "a" * 15_000


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A server that answers with a header of the call."""

    async def echo(call: Call, _: bytes) -> bytes:
        return call.metadata["x-header"].encode()

    async with serving("Echo", echo) as server, grpc.aio.insecure_channel(address_of(server)) as channel:
        yield channel


@pytest.fixture
def no_collections() -> Iterator[None]:
    """As in a role, where they are rare; all that is alive now is no young object."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def answer(channel: grpc.aio.Channel, method: str, *headers: tuple[str, str]) -> bytes:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return await call(b"", metadata=headers, timeout=15.0)


def bytes_of_headers() -> int:
    """What gRPC's copies of large headers have together, collectable or not."""
    return sum(len(LARGE) for each in gc.get_objects() if isinstance(each, tuple) and each[-1:] == (LARGE,))


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("method", ["/test.Service/Echo", "/test.Service/None", "/nobody.Here/Echo"])
async def test_large_headers_do_not_wait_for_a_rare_collection(channel: grpc.aio.Channel, method: str) -> None:
    for _ in range(3 * LEFT_BYTES // len(LARGE)):
        with suppress(grpc.aio.AioRpcError):
            await answer(channel, method, ("x-header", LARGE))
    assert bytes_of_headers() < 1.5 * LEFT_BYTES


async def test_each_header_counts_as_often_as_it_was_sent(channel: grpc.aio.Channel) -> None:
    many = [("x-header", str(number)) for number in range(limits.HEADERS - 10)]
    assert await answer(channel, "/test.Service/Echo", *many) == str(limits.HEADERS - 11).encode()
    with pytest.raises(grpc.aio.AioRpcError, match=f"a call may have {limits.HEADERS} headers, this one has") as failed:
        await answer(channel, "/test.Service/Echo", *many, *many)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_no_more_headers_are_kept_than_a_call_may_have() -> None:
    headers = HeaderReader().read([(f"x-{number}", "1") for number in range(1_000)])
    assert (len(headers.texts), headers.number) == (limits.HEADERS, 1_000)
    assert HeaderReader().read([("x-bytes-bin", b"\xff"), ("x-text", "1")]).texts == {"x-text": "1"}
