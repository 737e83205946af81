"""Calls that hold a place: without a message, or opened and left open."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from dispatchd.adapters.grpc import health_reflection
from dispatchd.adapters.grpc.call import Call
from dispatchd.adapters.grpc.slow_peers import LONGEST_ARRIVAL
from dispatchd.adapters.grpc.transport import GrpcServer
from grpc_servers import address_of, serving
from waiting import eventually

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LONGEST_CALL_S = 15.0


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    async def echo(_: Call, request: bytes) -> bytes:
        return request

    async with serving("Echo", echo) as server:
        yield server


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address_of(server)) as channel:
        yield channel


async def status_of(call: grpc.aio.StreamUnaryCall[bytes, bytes]) -> grpc.StatusCode:
    return await asyncio.wait_for(call.code(), LONGEST_CALL_S)


def echo(channel: grpc.aio.Channel) -> grpc.aio.StreamUnaryCall[bytes, bytes]:
    """A call that has begun; its message can be written."""
    method: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/test.Service/Echo")
    return method(timeout=LONGEST_CALL_S)


async def test_a_message_may_come_long_after_its_headers(channel: grpc.aio.Channel) -> None:
    call = echo(channel)
    await call.wait_for_connection()
    await call.write(b"hello")
    assert await call == b"hello"


async def test_a_call_without_a_message_is_invalid(channel: grpc.aio.Channel) -> None:
    call = echo(channel)
    await call.done_writing()
    assert await status_of(call) is grpc.StatusCode.INVALID_ARGUMENT
    assert await call.details() == "the call has no message"


async def test_a_call_whose_message_never_comes_is_ended(server: GrpcServer, channel: grpc.aio.Channel) -> None:
    call = echo(channel)
    await call.wait_for_connection()

    async def was_ended() -> bool:
        server._arrivals.end_slow(time.monotonic() + LONGEST_ARRIVAL.total_seconds() + 1)
        return call.done()

    await eventually(was_ended)
    assert await status_of(call) is RESOURCE_EXHAUSTED
    assert "did not arrive in time" in (await call.details() or "")


async def test_a_caller_who_goes_before_it_has_sent_anything_leaves_no_error(
    server: GrpcServer, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [echo(channel) for _ in range(100)]
    await asyncio.gather(*(call.wait_for_connection() for call in calls))
    for call in calls:
        call.cancel()

    async def are_gone() -> bool:
        return not server._arrivals._since

    await eventually(are_gone)
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_watches_of_health_are_bounded_and_their_places_come_back(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    watches = [health.Watch(request) for _ in range(health_reflection.LIBRARY_STREAMS)]
    for watch in watches:
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await health.Watch(request).code() is RESOURCE_EXHAUSTED
    assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watches[0].cancel()

    async def is_taken_again() -> bool:
        watch = health.Watch(request)
        try:
            return (await watch.read()) is not grpc.aio.EOF
        except grpc.aio.AioRpcError:
            return False
        finally:
            watch.cancel()

    await eventually(is_taken_again)
    for watch in watches:
        watch.cancel()


async def test_streams_of_reflection_are_bounded(channel: grpc.aio.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    streams = [stub.ServerReflectionInfo() for _ in range(health_reflection.LIBRARY_STREAMS)]
    for stream in streams:
        await stream.write(request)
        services = {service.name for service in (await stream.read()).list_services_response.service}
        assert "test.Service" in services
    assert await stub.ServerReflectionInfo().code() is RESOURCE_EXHAUSTED
    for stream in streams:
        stream.cancel()


async def test_a_stream_of_reflection_ends(channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_reflection, "LONGEST_REFLECTION", timedelta(seconds=0.1))
    stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    assert await asyncio.wait_for(stream.code(), LONGEST_CALL_S) is RESOURCE_EXHAUSTED
    assert "a minute" in (await stream.details() or "")
