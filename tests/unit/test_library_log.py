"""What gRPC's library logs about calls: what our handlers did wrong, and not what callers do or send."""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from attacks.frames import PREFACE, Flag, Kind, call_headers, frame, header, message
from dispatchd.adapters.grpc.call import Call
from dispatchd.adapters.grpc.transport import GrpcServer
from grpc_servers import serving

LIBRARY = logging.getLogger("grpc._cython.cygrpc")


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    async def echo(_: Call, request: bytes) -> bytes:
        return request

    async with serving("Say", echo) as server:
        yield server


async def call_with(server: GrpcServer, *headers: tuple[bytes, bytes]) -> bytes:
    """What comes back, up to the status, from a call with headers that no library would send."""
    block = call_headers("/test.Service/Say") + b"".join(header(name, value) for name, value in headers)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(PREFACE + frame(Kind.SETTINGS) + frame(Kind.HEADERS, 1, block, Flag.END_HEADERS))
    writer.write(frame(Kind.DATA, 1, message(b"x"), Flag.END_STREAM))
    answer = b""
    async with asyncio.timeout(15.0):
        while b"grpc-status" not in answer:
            answer += await reader.read(65_536)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_token_that_is_no_utf8_is_not_logged(server: GrpcServer, caplog: pytest.LogCaptureFixture) -> None:
    answer = await call_with(server, (b"authorization", b"Bearer geheim\xff"))
    assert b"grpc-status\x010" in answer
    assert "geheim" not in caplog.text
    assert caplog.records == []


async def test_a_caller_who_leaves_while_he_is_answered_leaves_no_traceback(
    server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (grpc.aio.InternalError('Failed "execute_batch"'), ValueError("a mistake in a handler")):
        try:
            raise error
        except (grpc.aio.InternalError, ValueError):
            LIBRARY.exception("raised by servicer method [/dispatchd.v1.JobService/GetJob]")
    LIBRARY.warning("something else")
    [mistake, other] = caplog.records
    assert mistake.exc_info is not None
    assert isinstance(mistake.exc_info[1], ValueError)
    assert other.getMessage() == "something else"
