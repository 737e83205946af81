"""A worker as the contract's first release has it: no features, one message for each assignment, result and ack."""

import time
from typing import Any

import grpc
import grpc.aio

from dispatchd.v1 import dispatchd_pb2 as pb
from perf.bench.failure import BenchFailed

SUBMIT_JOB = "/dispatchd.v1.JobService/SubmitJob"
SUBMIT_JOBS = "/dispatchd.v1.JobService/SubmitJobs"
UnaryBytes = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
"""A method called without serializers: requests and answers are the bytes on the wire."""

_CONNECT = "/dispatchd.v1.WorkerService/Connect"
_HEARTBEAT_EVERY_S = 5.0


def open_channel(address: str) -> grpc.aio.Channel:
    """A connection of its own: channels to one address would otherwise share one."""
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


class WorkerStream:
    """One worker's stream of raw bytes. One task reads, and only one writes at a time."""

    def __init__(self, address: str, worker_id: str, capability: str, slots: int) -> None:
        self._channel = open_channel(address)
        # Without serializers, messages pass as the bytes they are.
        self._call: grpc.aio.StreamStreamCall[Any, Any] = self._channel.stream_stream(_CONNECT)()
        self._registration = pb.WorkerRegistration(
            worker_id=worker_id, capabilities=[capability], max_concurrency=slots
        )
        self._heartbeat = pb.ConnectRequest(heartbeat=pb.WorkerHeartbeat(worker_id=worker_id)).SerializeToString()
        self._heartbeat_at = time.monotonic()

    async def register(self) -> None:
        """Opens the stream; assignments come from now on. Raises BenchFailed if it is not acked."""
        await self._call.write(pb.ConnectRequest(registration=self._registration).SerializeToString())
        ack = await self.read()
        if ack.WhichOneof("payload") != "ack" or ack.ack.worker_id != self._registration.worker_id:
            raise BenchFailed(f"a registration was answered by {ack}")

    async def read(self) -> pb.ConnectResponse:
        """The next message. Raises BenchFailed if the server ended the stream."""
        data = await self._call.read()
        if not isinstance(data, bytes):
            raise BenchFailed(f"a stream ended: {await self._call.code()} {await self._call.details()}")
        message: pb.ConnectResponse = pb.ConnectResponse.FromString(data)
        return message

    async def succeed(self, execution_id: str) -> None:
        """Reports success; now and then a heartbeat goes first, as a worker's lease needs it."""
        if time.monotonic() - self._heartbeat_at > _HEARTBEAT_EVERY_S:
            await self.heartbeat()
        result = pb.TaskResult(execution_id=execution_id, success=True)
        await self._call.write(pb.ConnectRequest(result=result).SerializeToString())

    async def heartbeat(self) -> None:
        """Says that the worker lives."""
        self._heartbeat_at = time.monotonic()
        await self._call.write(self._heartbeat)

    async def close(self) -> None:
        """Ends the stream and its connection."""
        self._call.cancel()
        await self._channel.close()
