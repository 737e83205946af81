"""A stream gets its status also where a write was given up before it was done."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc.aio

from dispatchd.adapters.grpc.call import Call, CallPipeline
from dispatchd.adapters.grpc.status import Status, StatusCode
from dispatchd.adapters.grpc.transport import GrpcServer
from dispatchd.adapters.grpc.worker_service import ByteStream

REFUSED = Status(StatusCode.INVALID_ARGUMENT, "no such thing")


async def give_up_a_write(_: Call, stream: ByteStream) -> Status:
    """As a stream's writer is cancelled when the worker breaks a rule."""
    await stream.read()
    writing = asyncio.create_task(stream.write(b"hello"))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    return REFUSED


async def test_a_first_write_that_is_given_up_takes_no_status_with_it() -> None:
    server = GrpcServer(CallPipeline(audits=False))
    server.add_stream("test.Service", "Connect", give_up_a_write)
    await server.start(0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel, asyncio.timeout(20.0):
            call: Any = channel.stream_stream("/test.Service/Connect")()
            await call.write(b"go")
            with suppress(grpc.aio.AioRpcError):
                while (await call.read()) is not grpc.aio.EOF:
                    pass
            assert (await call.code(), await call.details()) == (grpc.StatusCode.INVALID_ARGUMENT, REFUSED.message)
    finally:
        await server.stop(timedelta(0))
