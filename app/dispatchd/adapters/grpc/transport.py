"""The grpc.aio server: the only module on the server side that knows grpc. Every method is registered for bytes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dispatchd.adapters.grpc.call import Call, CallPipeline, Handler
from dispatchd.adapters.grpc.status import Status, StatusCode, status_of
from dispatchd.adapters.grpc.wire import parse
from dispatchd.adapters.grpc.worker_service import ByteStream, StreamGone
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest

CONCURRENT_CALLS = 25_000
_LONGEST_CALL_MS = 75_000
"""WaitJob waits up to a minute."""
_DETAILS_TRAILER = "grpc-status-details-bin"
_CODES = {StatusCode[code.name]: code for code in grpc.StatusCode if code.name in StatusCode.__members__}
_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
StreamHandler = Callable[[Call, ByteStream], Awaitable[Status]]


class GrpcServer:
    """A server for some services, with health and reflection. Starts NOT_SERVING."""

    def __init__(self, pipeline: CallPipeline, *, connection_age: timedelta | None = None) -> None:
        """`connection_age`: older connections are told to go, give or take a tenth, and their calls may end. Not for
        streams, which a connection would take with it."""
        self._pipeline = pipeline
        ages = [] if connection_age is None else _connection_age(connection_age)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=CONCURRENT_CALLS,
            options=[
                ("grpc.so_reuseport", 0),
                # A burst of calls waits for its turn; gRPC's own bounds (1,000 and 3,000) would drop it as CANCELLED.
                ("grpc.server.max_pending_requests", CONCURRENT_CALLS),
                ("grpc.server.max_pending_requests_hard_limit", CONCURRENT_CALLS),
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
        self._health = health.aio.HealthServicer()
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
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self._add_health()
        self._add_reflection(names)
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

    async def serving(self, *, is_serving: bool) -> None:
        """What health answers for the server and each service."""
        state = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, state)

    async def stop(self, grace: timedelta) -> None:
        """Takes no new calls and ends those that run after `grace`."""
        await self._server.stop(grace.total_seconds())

    def _add(self, name: str, handlers: Mapping[str, Any]) -> None:
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, dict(handlers)),))

    def _unary(self, service: str, method: str, handler: Handler) -> Any:
        label = f"{service.rpartition('.')[2]}.{method}"

        async def serve(request: bytes, context: Context) -> bytes:
            answer = await self._pipeline.answer(handler, _call(label, context), request)
            return _refuse(context, answer) if isinstance(answer, Status) else answer

        return grpc.unary_unary_rpc_method_handler(serve)

    def _stream(self, service: str, method: str, handler: StreamHandler) -> Any:
        label = f"{service.rpartition('.')[2]}.{method}"

        async def serve(_: AsyncIterator[bytes], context: Context) -> None:
            status = await handler(_call(label, context), _GrpcStream(context))
            if status.code is not StatusCode.OK:
                _refuse(context, status)

        return grpc.stream_stream_rpc_method_handler(serve)

    # Health and reflection come from their libraries; only their parsing is ours, because a generated servicer answers
    # bytes that are no message with UNKNOWN or INTERNAL.

    def _add_health(self) -> None:
        async def check(data: bytes, context: Context) -> bytes:
            request = _parsed(health_pb2.HealthCheckRequest, data, context)
            if request is None:
                return b""
            answer: bytes = (await self._health.Check(request, context)).SerializeToString()
            return answer

        async def watch(data: bytes, context: Context) -> None:
            request = _parsed(health_pb2.HealthCheckRequest, data, context)
            if request is not None:
                await self._health.Watch(request, _SerialisingContext(context))

        self._add(
            health.SERVICE_NAME,
            {
                "Check": grpc.unary_unary_rpc_method_handler(check),
                "Watch": grpc.unary_stream_rpc_method_handler(watch),
            },
        )

    def _add_reflection(self, names: tuple[str, ...]) -> None:
        servicer = reflection.ReflectionServicer(names)

        async def info(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            call = _call("ServerReflection.ServerReflectionInfo", context)
            status = self._pipeline.admitted(call)
            if status is not None:
                _refuse(context, status)
                return
            async for data in messages:
                request = _parsed(reflection_pb2.ServerReflectionRequest, data, context)
                if request is None:
                    return
                for answer in servicer.ServerReflectionInfo(iter([request]), context):
                    yield answer.SerializeToString()

        self._add(reflection.SERVICE_NAME, {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(info)})


def _connection_age(age: timedelta) -> list[tuple[str, int]]:
    return [
        ("grpc.max_connection_age_ms", round(age.total_seconds() * 1000)),
        ("grpc.max_connection_age_grace_ms", _LONGEST_CALL_MS),
    ]


class _GrpcStream:
    """Fulfils `ByteStream`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        data = await self._context.read()
        return None if data is grpc.aio.EOF else data

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except (grpc.aio.BaseError, asyncio.InvalidStateError) as exc:
            raise StreamGone from exc


class _SerialisingContext:
    """The part of a context that the health library writes to, for a method registered for bytes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def write(self, message: health_pb2.HealthCheckResponse) -> None:
        await self._context.write(message.SerializeToString())


def _call(label: str, context: Context) -> Call:
    remaining = context.time_remaining()
    return Call(
        method=label,
        metadata={key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)},
        peer=context.peer(),
        certificate_names=_certificate_names(context),
        time_remaining=None if remaining is None else timedelta(seconds=remaining),
    )


def _certificate_names(context: Context) -> tuple[str, ...]:
    auth = context.auth_context()
    if not auth:
        return ()
    return tuple(name.decode(errors="replace") for name in auth.get("x509_subject_alternative_name", ()))


def _parsed(kind: Any, data: bytes, context: Context) -> Any:
    """The message; None after a refusal."""
    try:
        return parse(kind, data)
    except InvalidRequest as exc:
        _refuse(context, status_of(exc))
        return None


def _refuse(context: Context, status: Status) -> bytes:
    """Ends a call with this status when its handler returns, which may return what this returns.

    `context.abort` does it by an exception that gRPC keeps, with the frame it came from and the request in that frame:
    a cycle, so that each refused call keeps its megabytes until the next full garbage collection.
    """
    context.set_code(_CODES[status.code])
    context.set_details(status.message)
    if status.details:
        context.set_trailing_metadata(((_DETAILS_TRAILER, status.details),))
    return b""
