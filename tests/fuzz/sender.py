"""Sends cases and notes how they end. Every wait is bounded: a call that is not over by then is said to hang."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from dispatchd.entrypoints.settings import Role
from dispatchd.sdk.worker.true_status import keep_true_status
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz.cases import Case
from fuzz.live_ids import LiveIds
from fuzz.methods import CONNECT

HANGS_AFTER_S = 60.0
WAIT_JOB_DEADLINE_S = 1.0
"""WaitJob answers before it."""
_LOOK_FOR_ANSWER_S = 0.3
_CHANNELS = 4
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
]
_GONE = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)


@dataclass(slots=True)
class Outcome:
    """How a call ended; `sent` are the messages with their ids, `acks` what a stream was told, by outcome."""

    code: grpc.StatusCode | None = None
    """None if it hangs."""
    details: str = ""
    sent: list[bytes] = field(default_factory=list)
    acks: Counter[str] = field(default_factory=Counter)
    assigned: list[str] = field(default_factory=list)
    unreadable: str = ""
    """What was wrong with an answer."""


class Sender:
    """Knows the channels to an installation. Ids that come back are made use of in what is sent later."""

    def __init__(self, channels: Mapping[Role, Sequence[grpc.aio.Channel]], ids: LiveIds) -> None:
        self._channels = channels
        self._ids = ids

    async def send(self, case: Case) -> Outcome:
        """Makes the call of a case; never raises but for cancellation."""
        outcome = Outcome()
        limit = asyncio.timeout(HANGS_AFTER_S)
        with suppress(TimeoutError):
            async with limit:
                await self._send(case, outcome)
        if limit.expired():
            # Though the call may have ended by that, and say so.
            outcome.code, outcome.details = None, f"no end within {HANGS_AFTER_S:g} s"
        return outcome

    async def _send(self, case: Case, outcome: Outcome) -> None:
        channels = self._channels[case.method.role]
        channel: Any = channels[case.number % len(channels)]
        options: dict[str, Any] = {
            "metadata": (*case.headers, *case.credential.headers()),
            "timeout": case.timeout_s if case.timeout_s is not None else _timeout_s(case),
            "compression": grpc.Compression.Gzip if case.compresses else None,
        }
        if case.method is CONNECT:
            await self._converse(channel.stream_stream(case.method.path)(**options), case, outcome)
        elif len(case.messages) == 1 and not case.method.streams_answers:
            call = channel.unary_unary(case.method.path)(self._filled(case, 0, outcome), **options)
            await self._ask(call, case, outcome)
        else:
            # With a stream of requests even a unary method can be sent none, or two.
            messages = iter([self._filled(case, number, outcome) for number in range(len(case.messages))])
            is_stream = case.method.streams_answers
            calling = (channel.stream_stream if is_stream else channel.stream_unary)(case.method.path)
            call = calling(messages, **options)
            keep_true_status(call)
            await (self._read_all if is_stream else self._ask)(call, case, outcome)

    def _filled(self, case: Case, number: int, outcome: Outcome) -> bytes:
        message = self._ids.put_into(case.messages[number], outcome.assigned)
        outcome.sent.append(message)
        return message

    async def _ask(self, call: Any, case: Case, outcome: Outcome) -> None:
        await _perhaps_leave(call, case)
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as exc:
            outcome.code, outcome.details = exc.code(), exc.details() or ""
        except asyncio.CancelledError:
            _check_was_cancelled(call)
            outcome.code = grpc.StatusCode.CANCELLED
        else:
            outcome.code = grpc.StatusCode.OK
            self._learn(answer)

    def _learn(self, answer: bytes) -> None:
        """Ids stand in the answers as they are."""
        for begin in _places(answer, b"job_"):
            self._ids.jobs.append(answer[begin : begin + 36].decode())

    async def _read_all(self, call: Any, case: Case, outcome: Outcome) -> None:
        await _perhaps_leave(call, case)
        try:
            while (await call.read()) is not grpc.aio.EOF:
                if not case.method.streams_requests:
                    # Health.Watch goes on until its caller leaves.
                    call.cancel()
                    outcome.code = grpc.StatusCode.OK
                    return
            outcome.code, outcome.details = await call.code(), await call.details()
        except grpc.aio.AioRpcError as exc:
            outcome.code, outcome.details = exc.code(), exc.details() or ""
        except asyncio.CancelledError:
            _check_was_cancelled(call)
            outcome.code = grpc.StatusCode.CANCELLED

    # --- the stream of a worker -----------------------------------------------------------------------------------

    async def _converse(self, call: Any, case: Case, outcome: Outcome) -> None:
        keep_true_status(call)
        heard = asyncio.Event()
        reader = asyncio.create_task(self._listen(call, outcome, heard), name="fuzz reader")
        try:
            await self._say(call, case, outcome, heard, reader)
            if case.leaves:
                call.cancel()
            # Its end by the caller's cancel must not end this task too.
            await asyncio.wait({reader})
            outcome.code, outcome.details = await call.code(), await call.details() or ""
        finally:
            call.cancel()
            reader.cancel()
            await asyncio.wait({reader})

    async def _say(
        self, call: Any, case: Case, outcome: Outcome, heard: asyncio.Event, reader: "asyncio.Task[None]"
    ) -> None:
        try:
            for number in range(len(case.messages)):
                heard.clear()
                await call.write(self._filled(case, number, outcome))
                if number == 0:
                    # The first message has an answer, or is the last.
                    await _first_of(heard, reader, HANGS_AFTER_S)
                elif number in case.waits:
                    await _first_of(heard, reader, _LOOK_FOR_ANSWER_S)
            if not case.leaves:
                await call.done_writing()
        except _GONE:
            # The stream has ended; the reader says how.
            return

    async def _listen(self, call: Any, outcome: Outcome, heard: asyncio.Event) -> None:
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                self._take(data, outcome)
                heard.set()
        except _GONE:
            return

    def _take(self, data: bytes, outcome: Outcome) -> None:
        try:
            answer = pb.ConnectResponse.FromString(data)
        except DecodeError as exc:
            outcome.unreadable = str(exc)
            return
        acks = [answer.ack] if answer.HasField("ack") else answer.acks.acks
        outcome.acks.update(pb.AckOutcome.Name(ack.outcome).removeprefix("ACK_OUTCOME_") for ack in acks)
        one = [answer.assignment] if answer.HasField("assignment") else answer.assignments.assignments
        outcome.assigned += [assignment.execution_id for assignment in one]
        self._ids.executions.extend(outcome.assigned[-len(one) :] if one else ())


async def _first_of(heard: asyncio.Event, reader: "asyncio.Task[None]", longest_s: float) -> None:
    hearing = asyncio.ensure_future(heard.wait())
    try:
        await asyncio.wait({hearing, reader}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hearing.cancel()


async def _perhaps_leave(call: Any, case: Case) -> None:
    """Drops a call of somebody who leaves: before it is sent, under way, or while it is answered."""
    if case.leaves:
        await asyncio.sleep(case.number % 8 / 1000)
        call.cancel()


def _check_was_cancelled(call: Any) -> None:
    """Raises CancelledError if it is not the call that was cancelled, but the task that waits for it."""
    if not call.cancelled():
        raise asyncio.CancelledError


def _timeout_s(case: Case) -> float:
    return WAIT_JOB_DEADLINE_S if case.method.label == "JobService.WaitJob" else HANGS_AFTER_S


def _places(data: bytes, prefix: bytes) -> list[int]:
    """Where job ids begin in an answer to a submit; a few are enough."""
    found: list[int] = []
    at = data.find(prefix)
    while at >= 0 and len(found) < 3:
        if data[at + 4 : at + 36].isalnum():
            found.append(at)
        at = data.find(prefix, at + 36)
    return found


@asynccontextmanager
async def channels_to(addresses: Mapping[Role, str]) -> AsyncIterator[Mapping[Role, Sequence[grpc.aio.Channel]]]:
    """A few connections to each role."""
    channels = {
        role: [grpc.aio.insecure_channel(address, options=_OPTIONS) for _ in range(_CHANNELS)]
        for role, address in addresses.items()
    }
    try:
        yield channels
    finally:
        for several in channels.values():
            for channel in several:
                await channel.close()
