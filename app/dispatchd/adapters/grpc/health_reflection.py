"""Health and reflection. They come from their libraries; only their parsing is ours, because a generated servicer
answers bytes that are no message with UNKNOWN or INTERNAL."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dispatchd.adapters.grpc.call import CallPipeline
from dispatchd.adapters.grpc.contexts import Context, call_of, read_message, refuse
from dispatchd.adapters.grpc.headers import Headers
from dispatchd.adapters.grpc.status import status_of
from dispatchd.adapters.grpc.wire import parse
from dispatchd.domain.errors import InvalidRequest, Overloaded

LIBRARY_STREAMS = 100
"""Open `Watch` calls of health, and open streams of reflection."""
LONGEST_REFLECTION = timedelta(minutes=1)

HEALTH = health.SERVICE_NAME
REFLECTION = reflection.SERVICE_NAME
FirstMessage = Callable[[Context], Awaitable[bytes | None]]


class Health:
    """Answers anybody, without a token."""

    def __init__(self, first_message: FirstMessage) -> None:
        """`first_message` raises Overloaded when it does not arrive."""
        self._first_message = first_message
        self._servicer = health.aio.HealthServicer()
        self._watches = asyncio.Semaphore(LIBRARY_STREAMS)

    async def tell(self, names: Iterable[str], *, is_serving: bool) -> None:
        """What is answered for these services; the empty name is the whole server."""
        state = health_pb2.HealthCheckResponse.SERVING if is_serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in names:
            await self._servicer.set(name, state)

    async def check(self, _: Headers, context: Context) -> bytes:
        request = await self._request(context)
        if request is None:
            return b""
        answer: bytes = (await self._servicer.Check(request, context)).SerializeToString()
        return answer

    async def watch(self, _: Headers, context: Context) -> None:
        request = await self._request(context)
        if request is None or _is_full(self._watches, context):
            return
        async with self._watches:
            await self._servicer.Watch(request, _SerialisingContext(context))

    async def _request(self, context: Context) -> Any:
        """None after a refusal."""
        try:
            data = await self._first_message(context)
        except Overloaded as exc:
            refuse(context, status_of(exc))
            return None
        return None if data is None else _parsed(health_pb2.HealthCheckRequest, data, context)


class Reflection:
    """Tells those who may what the services look like."""

    def __init__(self, pipeline: CallPipeline, names: Iterable[str]) -> None:
        self._pipeline = pipeline
        self._servicer = reflection.ReflectionServicer(names)
        self._streams = asyncio.Semaphore(LIBRARY_STREAMS)

    async def info(self, headers: Headers, context: Context) -> None:
        status = self._pipeline.admitted(call_of("ServerReflection.ServerReflectionInfo", headers, context))
        if status is not None:
            refuse(context, status)
            return
        if _is_full(self._streams, context):
            return
        async with self._streams:
            try:
                async with asyncio.timeout(LONGEST_REFLECTION.total_seconds()):
                    await self._answer_all(context)
            except TimeoutError:
                refuse(context, status_of(Overloaded("a stream of reflection may take a minute")))

    async def _answer_all(self, context: Context) -> None:
        while (data := await read_message(context)) is not None:
            request = _parsed(reflection_pb2.ServerReflectionRequest, data, context)
            if request is None:
                return
            for answer in self._servicer.ServerReflectionInfo(iter([request]), context):
                await context.write(answer.SerializeToString())


class _SerialisingContext:
    """The part of a context that the health library writes to, for a method registered for bytes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def write(self, message: health_pb2.HealthCheckResponse) -> None:
        await self._context.write(message.SerializeToString())


def _is_full(places: asyncio.Semaphore, context: Context) -> bool:
    """Whether the call was refused because all places are taken."""
    if places.locked():
        refuse(context, status_of(Overloaded("too many calls of this kind are open")))
        return True
    return False


def _parsed(kind: Any, data: bytes, context: Context) -> Any:
    """The message; None after a refusal."""
    try:
        return parse(kind, data)
    except InvalidRequest as exc:
        refuse(context, status_of(exc))
        return None
