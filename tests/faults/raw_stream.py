"""One stream of a recording worker: what it says and is told, in the order of the wire.

    open ─► registration written ─► its ack ─► registered ──────────► ended
                   │                             │ heartbeats every third of a lease
                   └── no ack in 5 s ────────────┴── no ack for two thirds of a lease: cancelled from here

Heartbeat acks come in the order of the heartbeats, so each ack belongs to the oldest one that has none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
import grpc.aio

from dispatchd.sdk.channel import open_stream_channel
from dispatchd.sdk.worker.true_status import keep_true_status
from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1.dispatchd_pb2_grpc import WorkerServiceStub
from faults.events import DrainTold, LeaseAcked, RegistrationSent, StreamEnded
from faults.ledger import LedgerWriter, now_ns

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import WorkerServiceAsyncStub

AnswerT = TypeVar("AnswerT")

FIRST_SILENCE_S = 5.0
FIRST_INTERVAL_S = 1.0
CLOSE_S = 2.0
_NS = 1_000_000_000


class Hands(Protocol):
    """The worker behind a stream."""

    def registration(self) -> v1.WorkerRegistration:
        """Return the registration, complete as of now."""

    def registered(self) -> None:
        """The stream may be used."""

    def status(self) -> v1.WorkerStatus:
        """Return what the next heartbeat says."""

    def next_message(self, stream: int) -> v1.ConnectRequest | None:
        """Return what is to be said next, which is noted as said, or None."""

    def assigned(self, stream: int, assignments: Iterable[v1.TaskAssignment]) -> None:
        """Executions have come."""

    def acked(self, stream: int, ack: v1.WorkerAck) -> None:
        """A result or give-back was answered."""

    def unwanted(self, stream: int, execution_ids: Iterable[str], *, is_signal: bool) -> None:
        """The server no longer wants these."""


class RawStream:
    """One stream, on a connection of its own."""

    def __init__(self, number: int, target: str, hands: Hands, ledger: LedgerWriter) -> None:
        self._number = number
        self._target = target
        self._hands = hands
        self._ledger = ledger
        self._sent_ns: deque[int] = deque()
        self._lease_s = 0.0
        self._heard_ns = now_ns()
        self._is_beat_due = False
        self._closing_ns: int | None = None
        self._wake = asyncio.Event()
        self._registered = asyncio.Event()

    async def run(self) -> None:
        """Holds the stream until it ends, however it does."""
        channel = open_stream_channel(self._target, None)
        try:
            stub: WorkerServiceAsyncStub = WorkerServiceStub(channel)
            call = stub.Connect()
            keep_true_status(call)
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(self._write(call), name="stream writer"),
                    group.create_task(self._keep_pace(call), name="stream pace"),
                ]
                await self._read(call)
                for part in parts:
                    part.cancel()
            code = await call.code()
        finally:
            await channel.close()
        self._ledger.note(StreamEnded(now_ns(), self._number, code.name))

    @property
    def _interval_s(self) -> float:
        return self._lease_s / 3 or FIRST_INTERVAL_S

    @property
    def _silence_s(self) -> float:
        return self._lease_s * 2 / 3 or FIRST_SILENCE_S

    def wake(self) -> None:
        """There is something to say."""
        self._wake.set()

    def beat(self) -> None:
        """Say now how the worker is."""
        self._is_beat_due = True
        self._wake.set()

    def close(self) -> None:
        """End the stream from this side, within two seconds."""
        self._closing_ns = now_ns()
        self._wake.set()

    # --- what it says ---------------------------------------------------------------------------------------------

    async def _write(self, call: Any) -> None:
        registration = self._hands.registration()
        self._sent_ns.append(now_ns())
        held = tuple(registration.held_execution_ids)
        self._ledger.note(RegistrationSent(self._sent_ns[-1], self._number, held))
        await _unless_ended(call.write(v1.ConnectRequest(registration=registration)))
        await self._registered.wait()
        while self._closing_ns is None:
            while (message := self._next_message()) is not None:
                await _unless_ended(call.write(message))
                if call.done():
                    return
            await self._wake.wait()
            self._wake.clear()
        await _unless_ended(call.done_writing())

    def _next_message(self) -> v1.ConnectRequest | None:
        if self._is_beat_due:
            self._is_beat_due = False
            self._sent_ns.append(now_ns())
            return v1.ConnectRequest(heartbeat=v1.WorkerHeartbeat(status=self._hands.status()))
        return self._hands.next_message(self._number)

    async def _keep_pace(self, call: Any) -> None:
        beat_ns = now_ns()
        while True:
            await asyncio.sleep(min(self._interval_s, FIRST_INTERVAL_S) / 4)
            is_late = self._closing_ns is not None and now_ns() - self._closing_ns > CLOSE_S * _NS
            if is_late or now_ns() - self._heard_ns > self._silence_s * _NS:
                call.cancel()
                return
            if self._registered.is_set() and now_ns() - beat_ns >= self._interval_s * _NS:
                beat_ns = now_ns()
                self.beat()

    # --- what it is told ------------------------------------------------------------------------------------------

    async def _read(self, call: Any) -> None:
        while isinstance(response := await _unless_ended(call.read()), v1.ConnectResponse):
            self._take(response)

    def _take(self, response: v1.ConnectResponse) -> None:
        match response.WhichOneof("payload"):
            case "assignments":
                self._hands.assigned(self._number, response.assignments.assignments)
            case "assignment":
                self._hands.assigned(self._number, [response.assignment])
            case "acks":
                for ack in response.acks.acks:
                    self._take_ack(ack)
            case "ack":
                self._take_ack(response.ack)
            case "cancel":
                self._hands.unwanted(self._number, response.cancel.execution_ids, is_signal=True)
            case "drain_signal":
                # What came up to here is read; the next registration names it.
                self._ledger.note(DrainTold(now_ns(), self._number))
                self.close()
            case _:
                pass

    def _take_ack(self, ack: v1.WorkerAck) -> None:
        if ack.execution_id:
            self._hands.acked(self._number, ack)
            return
        self._heard_ns = now_ns()
        remaining_ns = ack.lease_remaining.ToNanoseconds() if ack.HasField("lease_remaining") else None
        lost = tuple(ack.lost_execution_ids)
        self._ledger.note(LeaseAcked(self._heard_ns, self._number, self._sent_ns.popleft(), remaining_ns, lost))
        self._lease_s = max(self._lease_s, (remaining_ns or 0) / _NS)
        if not self._registered.is_set():
            self._registered.set()
            self._hands.registered()
        self._hands.unwanted(self._number, lost, is_signal=False)


async def _unless_ended(step: Awaitable[AnswerT]) -> AnswerT | None:
    """What a step on the stream returns, or None if the stream has ended; its reader learns how."""
    try:
        return await step
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return None
    except asyncio.CancelledError:
        # gRPC says so too when the call was cancelled from here, though nobody cancelled this task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return None
