"""The grpc.aio server. Every method is registered for bytes, and as one that streams its requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from dispatchd.adapters.grpc.call import Call, CallPipeline, Handler
from dispatchd.adapters.grpc.contexts import Context, call_of, read_message, refuse
from dispatchd.adapters.grpc.headers import HeaderReader, Headers
from dispatchd.adapters.grpc.health_reflection import HEALTH, REFLECTION, Health, Reflection
from dispatchd.adapters.grpc.slow_peers import Arrivals
from dispatchd.adapters.grpc.status import Status, StatusCode
from dispatchd.adapters.grpc.worker_service import ByteStream, StreamGone
from dispatchd.domain import limits

CONCURRENT_CALLS = 25_000
CALLS_PER_CONNECTION = 2_500
"""A further call of the same connection waits in its client. Calls that were reset, but not yet looked at, count too:
one connection can't put more than these in front of the calls of others (CVE-2023-44487)."""

_LONGEST_CALL_MS = 75_000
"""WaitJob waits up to a minute."""
_library_log = logging.getLogger("grpc._cython.cygrpc")

StreamHandler = Callable[[Call, ByteStream], Awaitable[Status]]
_Method = Callable[[Headers], Any]
"""What serves a call with these headers, as gRPC wants it."""


class GrpcServer:
    """A server for some services, with health and reflection. Starts NOT_SERVING."""

    def __init__(self, pipeline: CallPipeline, *, connection_age: timedelta | None = None) -> None:
        """`connection_age`: older connections are told to go, give or take a tenth, and their calls may end. Not for
        streams, which a connection would take with it."""
        self._pipeline = pipeline
        _library_log.addFilter(_is_our_fault)
        ages = [] if connection_age is None else _connection_age(connection_age)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=CONCURRENT_CALLS,
            options=[
                ("grpc.so_reuseport", 0),
                # A burst of calls waits for its turn; gRPC's own bounds (1,000 and 3,000) would drop it as CANCELLED.
                ("grpc.server.max_pending_requests", CONCURRENT_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", CONCURRENT_CALLS),
                ("grpc.max_concurrent_streams", CALLS_PER_CONNECTION),
                ("grpc.max_receive_message_length", limits.REQUEST_BYTES),
                ("grpc.max_metadata_size", limits.HEADER_BYTES),
                ("grpc.absolute_max_metadata_size", limits.HEADER_BYTES),
                *ages,
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        self._headers = HeaderReader()
        self._methods: dict[str, _Method] = {}
        finder = _Finder(self._methods, self._one_answer(_unimplemented), self._headers)
        self._server.add_generic_rpc_handlers((finder,))
        self._arrivals = Arrivals()
        self._ending_slow: asyncio.Task[None] | None = None
        self._health = Health(self._message)
        self._names: list[str] = []
        self.port = 0

    def add_service(self, name: str, handlers: Mapping[str, Handler]) -> None:
        """Registers unary methods."""
        self._add(name, {method: self._unary(name, method, handler) for method, handler in handlers.items()})
        self._names.append(name)

    def add_stream(self, name: str, method: str, handler: StreamHandler) -> None:
        """Registers a service with one bidirectional stream."""
        self._add(name, {method: self._stream(name, method, handler)})
        self._names.append(name)

    async def start(self, port: int, credentials: grpc.ServerCredentials | None = None) -> None:
        """Listens on `port` (0: a free one, see `port`), with TLS if there are credentials. Raises OSError if it is
        taken."""
        watch, check = self._many_answers(self._health.watch), self._one_answer(self._health.check)
        self._add(HEALTH, {"Check": check, "Watch": watch})
        info = self._many_answers(Reflection(self._pipeline, (*self._names, HEALTH, REFLECTION)).info)
        self._add(REFLECTION, {"ServerReflectionInfo": info})
        try:
            address = f"[::]:{port}"
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            raise OSError(f"gRPC port {port} can't be opened: is another process using it?") from exc
        await self.serving(is_serving=False)
        await self._server.start()
        self._ending_slow = asyncio.create_task(self._arrivals.run(), name="slow arrivals")

    async def serving(self, *, is_serving: bool) -> None:
        """What health answers for the server and each service."""
        await self._health.tell(("", *self._names), is_serving=is_serving)

    async def stop(self, grace: timedelta) -> None:
        """Takes no new calls and ends those that run after `grace`."""
        await self._server.stop(grace.total_seconds())
        if self._ending_slow is not None:
            self._ending_slow.cancel()

    def _add(self, name: str, methods: Mapping[str, _Method]) -> None:
        self._methods.update({f"/{name}/{method}": begun for method, begun in methods.items()})

    def _unary(self, service: str, method: str, handler: Handler) -> _Method:
        label = f"{service.rpartition('.')[2]}.{method}"

        async def serve(headers: Headers, context: Context) -> bytes:
            call = call_of(label, headers, context)
            answer = await self._pipeline.answer(handler, call, lambda: self._message(context))
            return refuse(context, answer) if isinstance(answer, Status) else answer

        return self._one_answer(serve)

    def _stream(self, service: str, method: str, handler: StreamHandler) -> _Method:
        label = f"{service.rpartition('.')[2]}.{method}"

        async def serve(headers: Headers, context: Context) -> None:
            stream = _GrpcStream(context, self._message)
            status = await handler(call_of(label, headers, context), stream)
            await stream.headers_settled()
            if status.code is not StatusCode.OK:
                refuse(context, status)

        return self._many_answers(serve)

    # As a unary method, gRPC would read the request before it asks us.

    def _one_answer(self, serve: Callable[[Headers, Context], Awaitable[bytes]]) -> _Method:
        def begun(headers: Headers) -> Any:
            async def served(_: AsyncIterator[bytes], context: Context) -> bytes:
                self._headers.let_go()
                return await serve(headers, context)

            return grpc.stream_unary_rpc_method_handler(served)

        return begun

    def _many_answers(self, serve: Callable[[Headers, Context], Awaitable[None]]) -> _Method:
        def begun(headers: Headers) -> Any:
            async def served(_: AsyncIterator[bytes], context: Context) -> None:
                self._headers.let_go()
                await serve(headers, context)

            return grpc.stream_stream_rpc_method_handler(served)

        return begun

    async def _message(self, context: Context) -> bytes | None:
        """The first message of a call. Raises Overloaded when it does not arrive."""
        return await self._arrivals.message(read_message(context))


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Where a caller leaves while the answer is on its way, the library can't send it and logs an error with a
    traceback; that says nothing about this process. And a header that is no UTF-8 it logs whole, be it a token."""
    error = record.exc_info[1] if record.exc_info else None
    is_of_a_header = isinstance(error, UnicodeDecodeError) and str(record.msg).startswith("Invalid encoding")
    return not (is_of_a_header or isinstance(error, grpc.aio.InternalError))


def _connection_age(age: timedelta) -> list[tuple[str, int]]:
    return [
        ("grpc.max_connection_age_ms", round(age.total_seconds() * 1000)),
        ("grpc.max_connection_age_grace_ms", _LONGEST_CALL_MS),
    ]


class _Finder(grpc.GenericRpcHandler):
    """Finds what serves a call, and hands it the headers: who asks a context for them has them all copied again."""

    def __init__(self, methods: Mapping[str, _Method], otherwise: _Method, headers: HeaderReader) -> None:
        self._methods = methods
        self._otherwise = otherwise
        self._headers = headers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        headers = self._headers.read(handler_call_details.invocation_metadata or ())
        return self._methods.get(handler_call_details.method, self._otherwise)(headers)


async def _unimplemented(_: Headers, context: Context) -> bytes:
    context.set_code(grpc.StatusCode.UNIMPLEMENTED)
    context.set_details("this server has no such method")
    return b""


class _GrpcStream:
    """Fulfils `ByteStream`.

    gRPC sends the headers with the first message, and notes that when the write is done. If the write was given up
    before, the status would bring them a second time: gRPC refuses that, and the caller would wait for its status for
    ever. So the headers go ahead, and are waited for before a status is given. No peer can hold them up by not reading.
    """

    def __init__(self, context: Context, first: Callable[[Context], Awaitable[bytes | None]]) -> None:
        self._context = context
        self._next = first
        self._headers: asyncio.Future[None] | None = None

    async def read(self) -> bytes | None:
        read, self._next = self._next, read_message
        return await read(self._context)

    async def write(self, message: bytes) -> None:
        try:
            if self._headers is None:
                self._headers = asyncio.ensure_future(self._context.send_initial_metadata(()))
                await asyncio.shield(self._headers)
            await self._context.write(message)
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as exc:
            raise StreamGone from exc

    async def headers_settled(self) -> None:
        """Waits until the headers are sent or the peer is gone, if they are under way."""
        if self._headers is not None:
            await asyncio.gather(self._headers, return_exceptions=True)
