"""A control-plane in the test's own process: the real role behind a real gRPC port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from dispatchd.entrypoints import control_plane
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.lifecycle import Backends, open_backends
from dispatchd.entrypoints.settings import Role, load_settings
from dispatchd.v1 import dispatchd_pb2 as pb
from dispatchd.v1 import dispatchd_pb2_grpc as pb_grpc
from stores import PREFIX
from waiting import until_done

LONGEST_CALL_S = 15.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Its stubs, and what stands behind it."""

    channel: grpc.aio.Channel
    jobs: "pb_grpc.JobServiceAsyncStub"
    operators: "pb_grpc.OperatorServiceAsyncStub"
    backends: Backends
    port: int

    async def submit(self, job_type: str = "email.send", payload: bytes = b"{}", **fields: object) -> pb.Job:
        """Submits a job that must be taken."""
        request = pb.SubmitJobRequest(job_type=job_type, payload=payload, **fields)  # type: ignore[arg-type]
        return (await self.jobs.SubmitJob(request, timeout=LONGEST_CALL_S)).job

    async def get(self, job_id: str) -> pb.Job:
        """A job that must be there."""
        return (await self.jobs.GetJob(pb.GetJobRequest(job_id=job_id), timeout=LONGEST_CALL_S)).job

    async def raw(self, service: str, method: str, request: bytes, timeout_s: float = LONGEST_CALL_S) -> bytes:
        """Calls a unary method with any bytes."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(f"/{service}/{method}")
        return await call(request, timeout=timeout_s)


@asynccontextmanager
async def control_plane_on(
    database_url: str, redis_address: str, credentials: grpc.ChannelCredentials | None = None, /, **environ: str
) -> AsyncIterator[ControlPlane]:
    """Starts the role on free ports, and stops it as SIGTERM does."""
    settings = load_settings(
        Role.CONTROL_PLANE,
        {
            "DATABASE_URL": database_url,
            "REDIS_ADDRESS": redis_address,
            "GRPC_PORT": str(free_port()),
            "METRICS_PORT": "0",
            "AUDIT_LOG_ENABLED": "false",
            "READY_QUEUE_PREFIX": PREFIX.rpartition(":")[0],
            "SHUTDOWN_TIMEOUT_SECONDS": "1",
            **environ,
        },
    )
    async with open_backends(settings) as backends:
        stop = asyncio.Event()
        serving = asyncio.create_task(control_plane.serve(settings, backends, stop))
        options = [
            ("grpc.max_receive_message_length", 4 * 1024 * 1024),
            # The first try comes before the server listens; the next one would come a second later.
            ("grpc.initial_reconnect_backoff_ms", 20),
            ("grpc.min_reconnect_backoff_ms", 20),
        ]
        address = f"127.0.0.1:{settings.grpc_port}"
        async with (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        ) as channel:
            await asyncio.wait({serving, asyncio.ensure_future(channel.channel_ready())}, return_when="FIRST_COMPLETED")
            try:
                yield ControlPlane(
                    channel,
                    pb_grpc.JobServiceStub(channel),
                    pb_grpc.OperatorServiceStub(channel),
                    backends,
                    settings.grpc_port,
                )
            finally:
                stop.set()
                await until_done(serving)
                # What was answered last may not have been read yet; without grace it would be cancelled.
                await channel.close(grace=5)


def details(error: grpc.aio.AioRpcError) -> list[Message]:
    """The google.rpc details of a refused call."""
    found: list[Message] = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                for kind in (error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
                    if packed.Is(kind.DESCRIPTOR):
                        message = kind()
                        packed.Unpack(message)
                        found.append(message)
    return found


def field_at_fault(error: grpc.aio.AioRpcError) -> str:
    """The field that google.rpc.BadRequest names."""
    [bad] = [detail for detail in details(error) if isinstance(detail, error_details_pb2.BadRequest)]
    field: str = bad.field_violations[0].field
    return field
