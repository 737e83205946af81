"""WorkerService.Connect: a reader and a writer for each stream, free of any transport.

::

    read ──▶ inbound ──▶ WorkerStreams.handle          outbox ──▶ encode ──▶ write
                 a stream ends when: the worker closes it · a protocol rule is broken · the session ends
"""

import asyncio
import time
from datetime import timedelta
from typing import Any, Protocol

from dispatchd.adapters.grpc.call import Call, CallPipeline
from dispatchd.adapters.grpc.status import Status, StatusCode, status_of
from dispatchd.adapters.grpc.stream_codec import StreamEncoder, inbound
from dispatchd.application.gateway.messages import Assignment, Outbound
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.gateway.streams import WorkerStreams
from dispatchd.application.ports import ClaimStore
from dispatchd.domain.errors import DispatchdError, RegisterFirst

NAME = "dispatchd.v1.WorkerService"
METHOD = "Connect"
LARGE_PAYLOADS_AT_ONCE = 8
LAST_WORDS = timedelta(seconds=1)
_LAST_WORDS_S = LAST_WORDS.total_seconds()
_LAST_ACKS_S = 5.0
_FIRST_MESSAGE_S = 30.0


class ByteStream(Protocol):
    """A bidirectional stream of messages as bytes."""

    async def read(self) -> bytes | None:
        """The next message; None when the other side has closed."""

    async def write(self, message: bytes) -> None:
        """Sends a message; waits while the other side does not read."""


class WorkerService:
    """One call of `connect` a stream."""

    def __init__(self, streams: WorkerStreams, claims: ClaimStore, pipeline: CallPipeline) -> None:
        self._streams = streams
        self._claims = claims
        self._pipeline = pipeline
        self._large_payloads = asyncio.Semaphore(LARGE_PAYLOADS_AT_ONCE)

    async def connect(self, call: Call, stream: ByteStream) -> Status:
        """Serves a stream to its end and returns its status."""
        self._pipeline.begin(call)
        started = time.perf_counter()
        code = StatusCode.CANCELLED
        try:
            try:
                await self._serve(call, stream)
                status = Status(StatusCode.OK, "")
            except DispatchdError as exc:
                status = status_of(exc)
            code = status.code
            return status
        finally:
            self._pipeline.end(call, code, time.perf_counter() - started, is_stream=True)

    async def _serve(self, call: Call, stream: ByteStream) -> None:
        try:
            async with asyncio.timeout(_FIRST_MESSAGE_S):
                data = await stream.read()
        except TimeoutError:
            raise RegisterFirst(f"nothing was sent for {_FIRST_MESSAGE_S:g} s") from None
        if data is None:
            return
        first = inbound(data)
        if first is None:
            raise RegisterFirst("the first message says nothing this release knows")
        session = await self._streams.open(first, call.identity.subject, call.peer)
        call.worker_id = session.worker_id
        try:
            await self._serve_session(session, stream)
        finally:
            await asyncio.shield(self._streams.closed(session))

    async def _serve_session(self, session: WorkerSession, stream: ByteStream) -> None:
        reader = asyncio.create_task(self._read(session, stream), name=f"reader {session.worker_id}")
        writer = asyncio.create_task(self._write(session, stream), name=f"writer {session.worker_id}")
        try:
            first_of: set[asyncio.Future[Any]] = {reader, writer, session.ended}
            await asyncio.wait(first_of, return_when=asyncio.FIRST_COMPLETED)
            if session.ended.done():
                await _let_finish(session, writer, _LAST_WORDS_S)
                raise session.ended.result()
            if writer.done():
                # A write fails only when the stream is gone.
                writer.result()
                return
            reader.result()
            while session.outbox.has_unanswered and not writer.done():
                if not await _let_finish(session, writer, _LAST_ACKS_S):
                    break
            await _let_finish(session, writer, _LAST_WORDS_S)
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, session: WorkerSession, stream: ByteStream) -> None:
        while (data := await stream.read()) is not None:
            message = inbound(data)
            if message is not None:
                await self._streams.handle(session, message)
            await session.outbox.has_room()

    async def _write(self, session: WorkerSession, stream: ByteStream) -> None:
        encoder = StreamEncoder(session.worker_id, batching=session.registration.batching)
        while True:
            messages = await session.outbox.take()
            small: list[Outbound] = []
            for message in messages:
                if isinstance(message, Assignment) and message.execution.payload is None:
                    await self._write_large(session, encoder, message, stream)
                else:
                    small.append(message)
                    _note_sent(session, message)
            for data in encoder.encode(small):
                await stream.write(data)

    async def _write_large(
        self, session: WorkerSession, encoder: StreamEncoder, message: Assignment, stream: ByteStream
    ) -> None:
        async with self._large_payloads:
            payload = await self._claims.payload(message.execution.job_id)
            if payload is None:
                return
            _note_sent(session, message)
            for data in encoder.encode([message.with_payload(payload)]):
                await stream.write(data)


def _note_sent(session: WorkerSession, message: Outbound) -> None:
    """Before the write: once it has begun, the worker may hold the execution."""
    if isinstance(message, Assignment):
        session.was_sent(message.execution.execution_id)


async def _let_finish(session: WorkerSession, writer: "asyncio.Task[None]", longest_s: float) -> bool:
    """Gives the writer a moment for what is queued; whether it came to rest."""
    idle = asyncio.ensure_future(session.outbox.idle())
    done, _ = await asyncio.wait({idle, writer}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
    idle.cancel()
    return idle in done
