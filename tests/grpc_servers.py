"""A gRPC server in the test's own process, with one method of its own and nothing behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from dispatchd.adapters.grpc.call import CallPipeline, Handler
from dispatchd.adapters.grpc.transport import GrpcServer

SERVICE = "test.Service"


@asynccontextmanager
async def serving(
    method: str, handler: Handler, *, connection_age: timedelta | None = None
) -> AsyncIterator[GrpcServer]:
    """Serves `test.Service/METHOD` on a free port."""
    server = GrpcServer(CallPipeline(audits=False), connection_age=connection_age)
    server.add_service(SERVICE, {method: handler})
    await server.start(0)
    try:
        yield server
    finally:
        await server.stop(timedelta(0))


def address_of(server: GrpcServer) -> str:
    return f"127.0.0.1:{server.port}"
