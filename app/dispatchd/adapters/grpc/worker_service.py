"""WorkerService.Connect: a reader, a writer and a loader for each stream, free of any transport.

::

    read ──▶ inbound ──▶ WorkerStreams.handle          outbox ──▶ encode ──▶ write
                                                          ▲ │
                          large payloads, one at a time ──┘ ▼ first_large
       a stream ends when: the worker closes it · a protocol rule is broken · the session ends · it is not read
"""

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from dispatchd.adapters.grpc.call import Call, CallPipeline
from dispatchd.adapters.grpc.status import Status, StatusCode, status_of
from dispatchd.adapters.grpc.stream_codec import Encoded, StreamEncoder, inbound
from dispatchd.application.gateway.messages import Assignment
from dispatchd.application.gateway.outbox import LoadedAssignment
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.gateway.streams import WorkerStreams
from dispatchd.application.ports import BatchRejected, ClaimStore
from dispatchd.domain.access import Identity
from dispatchd.domain.errors import DispatchdError, RegisterFirst, TokenExpired, Unavailable

NAME = "dispatchd.v1.WorkerService"
METHOD = "Connect"
LARGE_PAYLOADS_AT_ONCE = 4
"""How many the gateway has in memory, each until it is written: about 8 MiB apiece, with all the copies on the way."""

LAST_WORDS = timedelta(seconds=1)
_LAST_WORDS_S = LAST_WORDS.total_seconds()
_LAST_ACKS_S = 5.0
_PAYLOAD_RETRY_S = 0.2
_log = logging.getLogger(__name__)


class StreamGone(Exception):
    """The other side is not there any more."""


class ByteStream(Protocol):
    """A bidirectional stream of messages as bytes."""

    async def read(self) -> bytes | None:
        """The next message; None when the other side has closed. Raises Overloaded when the first does not arrive."""

    async def write(self, message: bytes) -> None:
        """Sends a message; waits while the other side does not read. Raises StreamGone."""


class WorkerService:
    """One call of `connect` a stream."""

    def __init__(
        self, streams: WorkerStreams, claims: ClaimStore, pipeline: CallPipeline, *, connection_age: timedelta
    ) -> None:
        self._connection_age_s = connection_age.total_seconds()
        self._streams = streams
        self._claims = claims
        self._pipeline = pipeline
        self._large_payloads = asyncio.Semaphore(LARGE_PAYLOADS_AT_ONCE)

    async def connect(self, call: Call, stream: ByteStream) -> Status:
        """Serves a stream to its end and returns its status."""
        started = time.perf_counter()
        code = StatusCode.CANCELLED
        try:
            try:
                self._pipeline.begin(call)
                error = await self._serve(call, stream)
                status = Status(StatusCode.OK, "") if error is None else status_of(error)
            except DispatchdError as exc:
                status = status_of(exc)
            except Exception:
                _log.exception("a stream failed", extra={"method": call.method, "worker_id": call.worker_id})
                status = status_of(Unavailable(f"the server failed; its log has request id {call.request_id}"))
            code = status.code
            return status
        finally:
            self._pipeline.end(call, code, time.perf_counter() - started, is_stream=True)

    async def _serve(self, call: Call, stream: ByteStream) -> DispatchdError | None:
        data = await stream.read()
        if data is None:
            return None
        first = inbound(data)
        if first is None:
            raise RegisterFirst("the first message says nothing this release knows")
        session = await self._streams.open(first, call.identity, call.peer)
        call.worker_id = session.worker_id
        timers = [self._move_on_when_old(session), *_end_when_expired(call.identity, session)]
        try:
            self._pipeline.opened(call)
            return await self._serve_session(session, stream)
        finally:
            for timer in timers:
                timer.cancel()
            await self._streams.close(session)

    def _move_on_when_old(self, session: WorkerSession) -> asyncio.TimerHandle:
        # Not all at once those that came at once, as after a restart.
        age_s = self._connection_age_s * random.uniform(0.9, 1.1)
        return asyncio.get_running_loop().call_later(age_s, self._streams.move_on, session)

    async def _serve_session(self, session: WorkerSession, stream: ByteStream) -> DispatchdError | None:
        """How the stream ends. Returned and not raised: an error that somebody keeps (the session, a task) and that is
        raised here would hold this frame, and with it the session and all its payloads, in a cycle."""
        reader = asyncio.create_task(self._read(session, stream), name=f"reader {session.worker_id}")
        writer = asyncio.create_task(self._write(session, stream), name=f"writer {session.worker_id}")
        loader = asyncio.create_task(self._load(session), name=f"loader {session.worker_id}")
        tasks = (reader, writer, loader)
        try:
            first_of: set[asyncio.Future[Any]] = {*tasks, session.ended}
            await asyncio.wait(first_of, return_when=asyncio.FIRST_COMPLETED)
            if session.ended.done():
                await _let_finish(session.outbox.idle(), writer, _LAST_WORDS_S)
                return session.ended.result()
            for task in tasks:
                if not task.done() or (error := task.exception()) is None:
                    continue
                if isinstance(error, DispatchdError):
                    return error
                if isinstance(error, StreamGone):
                    return None
                raise error
            # The worker has closed its side: it could not answer anything that it is sent from here on.
            session.leave()
            await _let_finish(session.outbox.all_answered(), writer, _LAST_ACKS_S)
            await _let_finish(session.outbox.idle(), writer, _LAST_WORDS_S)
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
            await self._write_all(
                session, stream, encoder.encode([m for m in messages if not isinstance(m, LoadedAssignment)])
            )
            for message in messages:
                if isinstance(message, LoadedAssignment):
                    await self._write_all(session, stream, encoder.encode([message.assignment]))
                    message.left.set()

    async def _write_all(self, session: WorkerSession, stream: ByteStream, messages: Iterable[Encoded]) -> None:
        for message in messages:
            # Before the write: once it has begun, the worker may hold the execution.
            for execution_id in message.assigned:
                session.was_sent(execution_id)
            session.writing_since = time.monotonic()
            await stream.write(message.data)
            session.writing_since = None

    async def _load(self, session: WorkerSession) -> None:
        """Reads large payloads when their turn comes: one at a time for a worker, a few for all of them."""
        while True:
            assignment = await session.outbox.first_large()
            async with self._large_payloads:
                payload = await self._payload(assignment)
                if payload is None:
                    session.vanished(assignment.execution.execution_id)
                else:
                    await session.outbox.deliver_large(assignment, payload)

    async def _payload(self, assignment: Assignment) -> bytes | None:
        while True:
            try:
                return await self._claims.payload(assignment.execution.job_id)
            except (Unavailable, BatchRejected) as exc:
                _log.info("a payload can't be read yet: %s", exc)
                await asyncio.sleep(_PAYLOAD_RETRY_S)


def _end_when_expired(identity: Identity, session: WorkerSession) -> list[asyncio.TimerHandle]:
    if identity.accepted_until is None:
        return []
    left_s = (identity.accepted_until - datetime.now(UTC)).total_seconds()
    return [asyncio.get_running_loop().call_later(max(0.0, left_s), session.end, TokenExpired())]


async def _let_finish(something: Coroutine[Any, Any, None], writer: "asyncio.Task[None]", longest_s: float) -> None:
    """Gives something a moment to happen, as long as the writer works."""
    happening = asyncio.ensure_future(something)
    try:
        await asyncio.wait({happening, writer}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        happening.cancel()
