"""One stream of the worker to a worker-gateway.

    open ─► registration written ─► its ack ─► registered ──────────────────────────► ended
      │            │                              │  heartbeats every third of a lease    ▲
      │            │                              │  what the owner has to say            │
      │            │                              │  drain signal: told to the owner      │
      └────────────┴──── no ack in 10 s ──────────┴──── silence for 2/3 of a lease ───────┘
                                                        status from the server, close()

The stream knows nothing of other streams, of tasks or of slots: those belong to its owner.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio

from dispatchd.sdk.errors import Unauthenticated
from dispatchd.sdk.grpc_status import Refusal, refusal_of_call
from dispatchd.sdk.worker.admission import Admission
from dispatchd.sdk.worker.lease import Pace
from dispatchd.sdk.worker.true_status import keep_true_status
from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1.dispatchd_pb2_grpc import WorkerServiceStub

if TYPE_CHECKING:
    from dispatchd.v1.dispatchd_pb2_grpc import WorkerServiceAsyncStub

AnswerT = TypeVar("AnswerT")

REGISTRATION_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0

Connect: TypeAlias = grpc.aio.StreamStreamCall[v1.ConnectRequest, v1.ConnectResponse]


class StreamOwner(Protocol):
    """What a stream asks of the worker behind it. All in the stream's loop."""

    def registration(self, stream: WorkerStream) -> v1.WorkerRegistration:
        """Return the registration, complete as of now: it is written at once."""

    def registered(self, stream: WorkerStream) -> None:
        """The server knows the worker on this stream."""

    def ended(self, stream: WorkerStream) -> None:
        """The stream is over."""

    def heartbeat(self) -> v1.WorkerHeartbeat:
        """Return the heartbeat to be written now."""

    def next_message(self, stream: WorkerStream) -> v1.ConnectRequest | None:
        """Return the next thing to say on this stream, or None."""

    def leased(self, valid_until: float | None, lost_execution_ids: Sequence[str]) -> None:
        """A heartbeat or registration was acked."""

    def assigned(self, stream: WorkerStream, assignments: Iterable[v1.TaskAssignment]) -> None:
        """Executions have come."""

    def acked(self, execution_ids: Iterable[str]) -> None:
        """Results or give-backs have been taken."""

    def unwanted(self, execution_ids: Iterable[str]) -> None:
        """The server wants these executions to be stopped."""

    def asked_to_leave(self, stream: WorkerStream, signal: v1.DrainSignal) -> None:
        """The gateway asks the worker to leave, or to go on over another stream."""


class WorkerStream:
    """One stream, on a connection of its own."""

    def __init__(self, admission: Admission, owner: StreamOwner):
        self._admission = admission
        self._owner = owner
        self._pace = Pace(time.monotonic())
        self._wake = asyncio.Event()
        self._pace_changed = asyncio.Event()
        self._heartbeat_due = False
        self._unacked_logs: Counter[str] = Counter()
        self._given_up: str | None = None
        self._is_closing = False
        self.is_registered = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.refusal: Refusal | None = None

    async def run(self) -> None:
        """Hold the stream until it ends; `refusal` then says how, and is None if it was closed from here."""
        channel: grpc.aio.Channel | None = None
        try:
            headers = await self._headers()
            if headers is not None:
                channel = await self._admission.channel()
                await self._hold(channel, headers)
        finally:
            self.has_ended.set()
            self._owner.ended(self)
            if channel is not None:
                await channel.close()

    def wake(self) -> None:
        """The owner has something to say."""
        self._wake.set()

    def heartbeat_now(self) -> None:
        """Send a heartbeat without waiting for its time: the worker's status has changed."""
        self._heartbeat_due = True
        self._wake.set()

    def close(self) -> None:
        """Say what is left to say and end the stream from this side, within two seconds."""
        self._is_closing = True
        self._wake.set()
        self._pace_changed.set()

    async def _headers(self) -> grpc.aio.Metadata | None:
        try:
            async with asyncio.timeout(REGISTRATION_TIMEOUT_S):
                return await self._admission.headers()
        except Unauthenticated as error:
            self.refusal = Refusal(grpc.StatusCode.UNAUTHENTICATED, error.message)
        except TimeoutError:
            self.refusal = Refusal(
                grpc.StatusCode.UNAVAILABLE,
                f"the function for the token returned none within {REGISTRATION_TIMEOUT_S:g} s",
            )
        return None

    async def _hold(self, channel: grpc.aio.Channel, headers: grpc.aio.Metadata) -> None:
        stub: WorkerServiceAsyncStub = WorkerServiceStub(channel)
        call = stub.Connect(metadata=headers)
        keep_true_status(call)
        async with asyncio.TaskGroup() as group:
            parts = [
                group.create_task(self._write(call), name="stream writer"),
                group.create_task(self._keep_pace(call), name="stream pace"),
            ]
            await self._read(call)
            for part in parts:
                part.cancel()
        self.refusal = await self._outcome(call)
        if self.refusal is not None and self.refusal.code is grpc.StatusCode.UNAUTHENTICATED:
            self._admission.refused()

    async def _read(self, call: Connect) -> None:
        while True:
            response = await _unless_ended(call.read())
            if not isinstance(response, v1.ConnectResponse):  # the end
                return
            self._take(response)

    def _take(self, response: v1.ConnectResponse) -> None:
        match response.WhichOneof("payload"):
            case "assignments":
                self._owner.assigned(self, response.assignments.assignments)
            case "assignment":
                self._owner.assigned(self, [response.assignment])
            case "acks":
                self._take_acks(response.acks.acks)
            case "ack":
                self._take_acks([response.ack])
            case "cancel":
                self._owner.unwanted(response.cancel.execution_ids)
            case "drain_signal":
                self._owner.asked_to_leave(self, response.drain_signal)
            case _:
                pass  # said by a later server to those who understand it

    def _take_acks(self, acks: Iterable[v1.WorkerAck]) -> None:
        settled = []
        for ack in acks:
            if not ack.execution_id:
                self._take_sign_of_life(ack)
            elif self._unacked_logs[ack.execution_id] > 0:
                # Acks of log lines look like acks of results. A result counts as taken only when all are in.
                self._unacked_logs[ack.execution_id] -= 1
            else:
                del self._unacked_logs[ack.execution_id]
                settled.append(ack.execution_id)
        if settled:
            self._owner.acked(settled)

    def _take_sign_of_life(self, ack: v1.WorkerAck) -> None:
        remaining_s = ack.lease_remaining.ToTimedelta().total_seconds() if ack.HasField("lease_remaining") else None
        valid_until = self._pace.acked(time.monotonic(), remaining_s)
        self._pace_changed.set()
        if not self.is_registered.is_set():
            self.is_registered.set()
            self._wake.set()
            self._owner.registered(self)
        self._owner.leased(valid_until, ack.lost_execution_ids)

    async def _write(self, call: Connect) -> None:
        self._pace.sent(time.monotonic())
        if not await _said(call, v1.ConnectRequest(registration=self._owner.registration(self))):
            return
        await self.is_registered.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            is_last_time = self._is_closing
            while (message := self._next_message()) is not None:
                if not await _said(call, message):
                    return
            if is_last_time:
                await _unless_ended(call.done_writing())
                return

    def _next_message(self) -> v1.ConnectRequest | None:
        if self._heartbeat_due:
            self._heartbeat_due = False
            self._pace.sent(time.monotonic())
            self._pace_changed.set()
            return v1.ConnectRequest(heartbeat=self._owner.heartbeat())
        message = self._owner.next_message(self)
        if message is not None and message.HasField("log_chunk"):
            self._unacked_logs[message.log_chunk.execution_id] += 1
        return message

    async def _keep_pace(self, call: Connect) -> None:
        try:
            async with asyncio.timeout(REGISTRATION_TIMEOUT_S):
                await self.is_registered.wait()
        except TimeoutError:
            self._give_up(call, f"the registration was not acked within {REGISTRATION_TIMEOUT_S:g} s")
            return
        while not self._is_closing:
            now = time.monotonic()
            if now >= self._pace.silent_at:
                self._give_up(call, "no heartbeat was acked for two thirds of a lease")
                return
            if now >= self._pace.next_heartbeat_at and not self._heartbeat_due:
                self.heartbeat_now()
            # A heartbeat that is due but not yet written has no next one.
            next_at = self._pace.silent_at if self._heartbeat_due else self._pace.next_heartbeat_at
            await self._pace_change(min(next_at, self._pace.silent_at) - now)
        await asyncio.sleep(CLOSE_TIMEOUT_S)
        self._give_up(call, "the server did not end the stream")

    async def _pace_change(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._pace_changed.wait()
        except TimeoutError:
            return
        self._pace_changed.clear()

    def _give_up(self, call: Connect, reason: str) -> None:
        self._given_up = reason
        call.cancel()

    async def _outcome(self, call: Connect) -> Refusal | None:
        if self._is_closing:
            return None
        if self._given_up is not None:
            return Refusal(grpc.StatusCode.UNAVAILABLE, self._given_up)
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return Refusal(grpc.StatusCode.UNAVAILABLE, "the gateway ended the stream")
        trailers = await call.trailing_metadata()
        return refusal_of_call(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, await call.details()))


async def _said(call: Connect, message: v1.ConnectRequest) -> bool:
    async def say() -> bool:
        await call.write(message)
        return True

    return await _unless_ended(say()) or False


async def _unless_ended(step: Awaitable[AnswerT]) -> AnswerT | None:
    """Return what a step on the stream returns, or None if the stream has ended; its reader learns how."""
    try:
        return await step
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return None
    except asyncio.CancelledError:
        # gRPC says so too when the stream was cancelled from here, though nobody cancelled this task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return None
