"""A real gRPC server that speaks WorkerService as a test says: the worker's other side.

Each stream the worker opens comes out of `accept`. The test reads what the worker says and answers it, message by
message; only heartbeats and the notices of beginnings are noted by the stream itself, whenever they come.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1 import dispatchd_pb2_grpc as rpc

PATIENCE_S = 20.0


class GatewayStream:
    """The server's end of one stream."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._said: asyncio.Queue[v1.ConnectRequest] = asyncio.Queue()
        # None ends the stream, with `_ending` as its status, or with OK.
        self._to_say: asyncio.Queue[v1.ConnectResponse | None] = asyncio.Queue()
        self._ending: tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]] | None = None
        self._lease_s: float | None = None
        self._noted = asyncio.Condition()
        self.registration = v1.WorkerRegistration()
        self.heartbeats: list[v1.WorkerHeartbeat] = []
        self.announced: set[str] = set()
        self.is_closed_by_worker = asyncio.Event()
        self.is_over = asyncio.Event()

    # What the worker says.

    async def receive(self) -> v1.ConnectRequest:
        """The next message, apart from heartbeats and beginnings."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._said.get()

    async def register(self, lease_s: float | None = 30.0, *, lost: Iterable[str] = ()) -> v1.WorkerRegistration:
        """Take the registration, ack it, and from now on ack every heartbeat with the same lease."""
        message = await self.receive()
        assert message.WhichOneof("payload") == "registration", message
        self.registration = message.registration
        self.answer_heartbeats(lease_s)
        self.ack_life(lease_s, lost=lost)
        return self.registration

    async def begun(self, *names: str) -> None:
        """Wait until the worker has said on this stream that these executions have begun."""
        async with asyncio.timeout(PATIENCE_S), self._noted:
            await self._noted.wait_for(lambda: self.announced.issuperset(names))

    async def results(self) -> list[v1.TaskResult]:
        """The next results, whatever was said before them."""
        while True:
            message = await self.receive()
            if message.HasField("results"):
                return list(message.results.results)

    async def result(self) -> v1.TaskResult:
        [result] = await self.results()
        return result

    async def given_back(self) -> list[str]:
        """The next executions that are given back, whatever was said before them."""
        while True:
            message = await self.receive()
            if message.HasField("give_back"):
                return list(message.give_back.execution_ids)

    async def beats(self, count: int) -> None:
        """Wait until so many heartbeats have come in all."""
        async with asyncio.timeout(PATIENCE_S), self._noted:
            await self._noted.wait_for(lambda: len(self.heartbeats) >= count)

    async def beats_as(self, status: int, times: int = 1) -> None:
        """Wait until so many heartbeats have said that the worker is in this state."""
        async with asyncio.timeout(PATIENCE_S), self._noted:
            await self._noted.wait_for(lambda: sum(beat.status == status for beat in self.heartbeats) >= times)

    def nothing_more(self) -> bool:
        """Whether everything that has come so far was read."""
        return self._said.empty()

    # What the gateway says.

    def say(self, **payload: Any) -> None:
        self._to_say.put_nowait(v1.ConnectResponse(**payload))

    def answer_heartbeats(self, lease_s: float | None) -> None:
        self._lease_s = lease_s

    def ignore_heartbeats(self) -> None:
        """Take heartbeats without acking them, like a gateway that hangs."""
        self._lease_s = -1.0

    def ack_life(self, lease_s: float | None, *, lost: Iterable[str] = ()) -> None:
        ack = v1.WorkerAck(worker_id=self.registration.worker_id, lost_execution_ids=lost)
        if lease_s is not None:
            ack.lease_remaining.FromMilliseconds(round(lease_s * 1000))
        self.say(ack=ack)

    def assign(self, *names: str, job_type: str = "report.render", payload: bytes = b"1", **fields: Any) -> None:
        """Assign executions with these names as ids."""
        fields.setdefault("attempt", 1)
        assignments = [
            v1.TaskAssignment(execution_id=name, job_id=f"job of {name}", job_type=job_type, payload=payload, **fields)
            for name in names
        ]
        self.say(assignments=v1.TaskAssignments(assignments=assignments))

    def ack(self, *names: str, outcome: int = v1.ACK_OUTCOME_ACCEPTED) -> None:
        acks = [
            v1.WorkerAck(execution_id=name, worker_id=self.registration.worker_id, outcome=outcome)  # type: ignore[arg-type]
            for name in names
        ]
        self.say(acks=v1.WorkerAcks(acks=acks))

    def cancel(self, *names: str) -> None:
        self.say(cancel=v1.CancelSignal(execution_ids=names, reason="canceled"))

    def drain(self, kind: int) -> None:
        self.say(drain_signal=v1.DrainSignal(reason="the gateway stops", kind=kind))  # type: ignore[arg-type]

    def end(self, code: grpc.StatusCode, message: str = "the test says so") -> None:
        """End the stream with a status, once all that was said has been written."""
        self._ending = (code, message, ())
        self._to_say.put_nowait(None)

    def expire(self) -> None:
        """End the stream as one whose token is over."""
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration()))
        status = Status(code=grpc.StatusCode.UNAUTHENTICATED.value[0], details=[detail])
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        self._ending = (grpc.StatusCode.UNAUTHENTICATED, "the token of this stream has expired", trailers)
        self._to_say.put_nowait(None)

    # The RPC.

    async def serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name="gateway reader")
                while (response := await self._to_say.get()) is not None:
                    await self._context.write(response)
                reader.cancel()
        finally:
            self.is_over.set()
        if self._ending is not None:
            await self._context.abort(*self._ending)

    async def _read(self) -> None:
        while (message := await self._context.read()) is not grpc.aio.EOF:
            match message.WhichOneof("payload"):
                case "heartbeat":
                    self.heartbeats.append(message.heartbeat)
                    if self._lease_s is None or self._lease_s >= 0:
                        self.ack_life(self._lease_s)
                case "started":
                    self.announced.update(message.started.execution_ids)
                case _:
                    self._said.put_nowait(message)
            async with self._noted:
                self._noted.notify_all()
        self.is_closed_by_worker.set()
        self._to_say.put_nowait(None)


class ScriptedGateway(rpc.WorkerServiceServicer):
    """Hands out the streams that workers open."""

    def __init__(self) -> None:
        self.target = ""
        self._streams: asyncio.Queue[GatewayStream] = asyncio.Queue()
        self.headers: list[dict[str, str]] = []

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override] # noqa: N802
        self.headers.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        stream = GatewayStream(context)
        self._streams.put_nowait(stream)
        await stream.serve()

    async def accept(self) -> GatewayStream:
        """The next stream that a worker opens."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._streams.get()

    async def register(self, lease_s: float | None = 30.0) -> GatewayStream:
        """The next stream, registered."""
        stream = await self.accept()
        await stream.register(lease_s)
        return stream


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    server = grpc.aio.server()
    rpc.add_WorkerServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gateway.target = f"127.0.0.1:{port}"
    try:
        yield gateway
    finally:
        await server.stop(None)
