"""A worker driven by hand: what it sends and what it is sent, message by message."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from dispatchd.sdk.worker.true_status import keep_true_status
from dispatchd.v1 import dispatchd_pb2 as pb

PATIENCE_S = 15.0
T = TypeVar("T")
BATCHING = pb.WORKER_FEATURE_BATCHING
STARTED = pb.WORKER_FEATURE_STARTED
RESUME = pb.WORKER_FEATURE_RESUME
READY, BUSY, DRAINING, OFFLINE = (
    pb.WORKER_STATUS_READY,
    pb.WORKER_STATUS_BUSY,
    pb.WORKER_STATUS_DRAINING,
    pb.WORKER_STATUS_OFFLINE,
)
ACCEPTED, STALE, UNKNOWN = pb.ACK_OUTCOME_ACCEPTED, pb.ACK_OUTCOME_STALE, pb.ACK_OUTCOME_UNKNOWN

_numbers = itertools.count(1)


class WorkerStream:
    """One stream. Whatever arrives is sorted by kind; `order` has everything in the order it came."""

    def __init__(
        self,
        address: str,
        worker_id: str = "",
        *,
        reads: bool = True,
        metadata: tuple[tuple[str, str], ...] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.worker_id = worker_id or f"worker-{next(_numbers)}"
        self.order: list[pb.ConnectResponse] = []
        options: list[tuple[str, int]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        if not reads:
            # The fixed window of other clients: this one would take 4 MiB that nobody reads.
            options += [("grpc.http2.lookahead_bytes", 64 * 1024), ("grpc.http2.bdp_probe", 0)]
        self._channel = (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        )
        self._call: Any = self._channel.stream_stream("/dispatchd.v1.WorkerService/Connect")(metadata=metadata)
        keep_true_status(self._call)
        self._acks: asyncio.Queue[pb.WorkerAck] = asyncio.Queue()
        self._assignments: asyncio.Queue[pb.TaskAssignment] = asyncio.Queue()
        self._cancels: asyncio.Queue[pb.CancelSignal] = asyncio.Queue()
        self._drains: asyncio.Queue[pb.DrainSignal] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        if reads:
            self.start_reading()

    def start_reading(self) -> None:
        self._reader = asyncio.create_task(self._read())

    async def connected(self) -> None:
        """Waits until the server has been reached."""
        async with asyncio.timeout(PATIENCE_S):
            await self._channel.channel_ready()

    # --- what it sends --------------------------------------------------------------------------------------------

    async def send_bytes(self, data: bytes) -> None:
        await self._call.write(data)

    async def send(self, **payload: Any) -> None:
        await self.send_bytes(pb.ConnectRequest(**payload).SerializeToString())

    async def register(
        self,
        *capabilities: str,
        slots: int = 1,
        features: Sequence[pb.WorkerFeature] = (),
        process_id: str = "",
        held: Sequence[str] = (),
        labels: dict[str, str] | None = None,
    ) -> pb.WorkerAck:
        """Registers and returns the ack."""
        await self.send(
            registration=pb.WorkerRegistration(
                worker_id=self.worker_id,
                capabilities=capabilities or ("email",),
                max_concurrency=slots,
                labels=labels,
                features=features,
                process_id=process_id,
                held_execution_ids=held,
            )
        )
        return await self.ack()

    async def heartbeat(self, status: pb.WorkerStatus = READY, worker_id: str | None = None) -> None:
        await self.send(
            heartbeat=pb.WorkerHeartbeat(
                worker_id=self.worker_id if worker_id is None else worker_id, status=status, inflight_executions=0
            )
        )

    async def beat(self, status: pb.WorkerStatus = READY) -> pb.WorkerAck:
        """A heartbeat and the next ack."""
        await self.heartbeat(status)
        return await self.ack()

    async def result(self, execution_id: str, *, success: bool = True, **fields: Any) -> None:
        await self.send(result=pb.TaskResult(execution_id=execution_id, success=success, **fields))

    async def finish(self, execution_id: str, *, success: bool = True, **fields: Any) -> pb.WorkerAck:
        """A result and the next ack."""
        await self.result(execution_id, success=success, **fields)
        return await self.ack()

    async def give_back(self, *execution_ids: str) -> None:
        await self.send(give_back=pb.GiveBack(execution_ids=execution_ids))

    async def done_writing(self) -> None:
        """Half-closes the stream."""
        await self._call.done_writing()

    # --- what it is sent ------------------------------------------------------------------------------------------

    async def ack(self, patience_s: float = PATIENCE_S) -> pb.WorkerAck:
        return await self._next(self._acks, "ack", patience_s)

    async def assignment(self, patience_s: float = PATIENCE_S) -> pb.TaskAssignment:
        return await self._next(self._assignments, "assignment", patience_s)

    async def assignments(self, count: int) -> list[pb.TaskAssignment]:
        return [await self.assignment() for _ in range(count)]

    async def cancel_signal(self) -> pb.CancelSignal:
        return await self._next(self._cancels, "cancel signal", PATIENCE_S)

    async def drain_signal(self) -> pb.DrainSignal:
        return await self._next(self._drains, "drain signal", PATIENCE_S)

    @property
    def has_assignment(self) -> bool:
        """Whether an assignment has arrived that nobody took."""
        return not self._assignments.empty()

    @property
    def has_ack(self) -> bool:
        return not self._acks.empty()

    def arrived_acks(self) -> list[pb.WorkerAck]:
        """The acks that have arrived and that nobody took."""
        return [self._acks.get_nowait() for _ in range(self._acks.qsize())]

    @property
    def has_ended(self) -> bool:
        done: bool = self._call.done()
        return done

    async def ended(self, patience_s: float = PATIENCE_S) -> tuple[grpc.StatusCode, str]:
        """Waits for the end of the stream: its status and message."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._call.code(), await self._call.details()
        except TimeoutError:
            # The gateway lives in the same loop.
            tasks = "\n".join(f"{task.get_name()}: {task.get_stack(limit=1)}" for task in asyncio.all_tasks())
            raise AssertionError(f"the stream did not end within {patience_s:g} s; under way are\n{tasks}") from None

    async def trailers(self) -> dict[str, Any]:
        return dict(await self._call.trailing_metadata() or ())

    # --- its end --------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Drops the stream without a word."""
        self._call.cancel()

    async def close(self) -> None:
        self._call.cancel()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._channel.close()

    async def _next(self, queue: "asyncio.Queue[T]", what: str, patience_s: float) -> T:
        taking = asyncio.ensure_future(queue.get())
        waits: set[asyncio.Future[Any]] = {taking}
        if self._reader is not None:
            waits.add(self._reader)
        await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            # What came just before the end still counts.
            await asyncio.sleep(0)
        if taking.done():
            return taking.result()
        taking.cancel()
        if self._reader is not None and self._reader.done():
            code, details = await self.ended()
            raise AssertionError(f"the stream ended {code.name} ({details}) instead of an {what}")
        raise AssertionError(f"no {what} came within {patience_s:g} s")

    async def _read(self) -> None:
        try:
            while (data := await self._call.read()) is not grpc.aio.EOF:
                self._sort(pb.ConnectResponse.FromString(data))
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            return

    def _sort(self, message: pb.ConnectResponse) -> None:
        self.order.append(message)
        match message.WhichOneof("payload"):
            case "ack":
                self._acks.put_nowait(message.ack)
            case "acks":
                for ack in message.acks.acks:
                    self._acks.put_nowait(ack)
            case "assignment":
                self._assignments.put_nowait(message.assignment)
            case "assignments":
                for assignment in message.assignments.assignments:
                    self._assignments.put_nowait(assignment)
            case "cancel":
                self._cancels.put_nowait(message.cancel)
            case "drain_signal":
                self._drains.put_nowait(message.drain_signal)


@asynccontextmanager
async def worker(
    address: str,
    worker_id: str = "",
    *,
    reads: bool = True,
    metadata: tuple[tuple[str, str], ...] | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> AsyncIterator[WorkerStream]:
    """A stream that is dropped at the end of the block."""
    stream = WorkerStream(address, worker_id, reads=reads, metadata=metadata, credentials=credentials)
    try:
        yield stream
    finally:
        await stream.close()
