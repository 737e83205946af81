"""What gRPC's library logs about calls: what our handlers did wrong, and not what callers do or send."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc.aio
import pytest

from dispatchd.adapters.grpc.call import Call, CallPipeline
from dispatchd.adapters.grpc.transport import GrpcServer

LIBRARY = logging.getLogger("grpc._cython.cygrpc")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA = 4, 1, 0
END_HEADERS, END_STREAM = 4, 1


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    async def echo(_: Call, request: bytes) -> bytes:
        return request

    server = GrpcServer(CallPipeline(audits=False))
    server.add_service("test.Echo", {"Say": echo})
    await server.start(0)
    yield server
    await server.stop(timedelta(0))


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header(name: bytes, value: bytes) -> bytes:
    """A literal that nobody stores; both shorter than 127 bytes (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def call_with(server: GrpcServer, *headers: tuple[bytes, bytes]) -> bytes:
    """What comes back, up to the status, from a call with headers that no library would send."""
    usual = {b":method": b"POST", b":scheme": b"http", b":path": b"/test.Echo/Say", b":authority": b"here"}
    usual |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    block = b"".join(header(name, value) for name, value in (*usual.items(), *headers))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, block))
    writer.write(frame(DATA, END_STREAM, 1, b"\0\0\0\0\x01x"))
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
