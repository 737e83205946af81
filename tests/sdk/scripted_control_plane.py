"""A real gRPC server that answers JobService and OperatorService as a test says: the client's other side."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from dispatchd.v1 import dispatchd_pb2 as v1
from dispatchd.v1 import dispatchd_pb2_grpc as rpc

Answer = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


class ScriptedControlPlane:
    """Records every request with its call metadata. A method without an answer is UNIMPLEMENTED, as on old servers."""

    def __init__(self) -> None:
        self.target = ""
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: dict[str, Answer] = {}

    def of_type(self, kind: type[Any]) -> list[Any]:
        return [request for request in self.requests if isinstance(request, kind)]

    async def answer(self, method: str, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.requests.append(request)
        self.headers.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        answer = self.answers.get(method)
        if answer is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no {method} here")
        return await answer(request, context)


def _scripted(base: type[Any], methods: list[str], peer: ScriptedControlPlane) -> Any:
    def handler(method: str) -> Any:
        async def handle(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await peer.answer(method, request, context)

        return handle

    return type("Scripted", (base,), {method: handler(method) for method in methods})()


JOB_METHODS = ["SubmitJob", "CancelJob", "GetJob", "ListExecutions", "SubmitJobs", "WaitJob"]
OPERATOR_METHODS = ["ListDeadLetters", "RedriveDeadLetters", "ListWorkers", "ListQueues"]


@asynccontextmanager
async def scripted_control_plane() -> AsyncIterator[ScriptedControlPlane]:
    peer = ScriptedControlPlane()
    server = grpc.aio.server()
    rpc.add_JobServiceServicer_to_server(_scripted(rpc.JobServiceServicer, JOB_METHODS, peer), server)
    rpc.add_OperatorServiceServicer_to_server(_scripted(rpc.OperatorServiceServicer, OPERATOR_METHODS, peer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    peer.target = f"127.0.0.1:{port}"
    try:
        yield peer
    finally:
        await server.stop(None)


def stored(request: v1.SubmitJobRequest, number: int = 0) -> v1.Job:
    """A job as SubmitJobs answers it: without payload, metadata and result."""
    return v1.Job(
        job_id=f"job_{number:032x}",
        job_type=request.job_type,
        status=v1.JOB_STATUS_PENDING,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
    )


async def store_all(
    request: v1.SubmitJobsRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> v1.SubmitJobsResponse:
    """Answer every item with a job; the number in the payload becomes the job's id."""
    return v1.SubmitJobsResponse(
        results=[
            v1.SubmitJobsResult(job=stored(item.request, int(item.request.payload[-9:]))) for item in request.items
        ]
    )


def refuse(code: grpc.StatusCode, message: str, *, field: str = "", retry_after_s: int = 0) -> Answer:
    """An answer that ends the call with a status and the google.rpc details that go with it."""

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        status = Status(code=code.value[0], message=message)
        if field:
            detail = AnyMessage()
            detail.Pack(BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description=message)]))
            status.details.append(detail)
        if retry_after_s:
            detail = AnyMessage()
            info = RetryInfo()
            info.retry_delay.FromSeconds(retry_after_s)
            detail.Pack(info)
            status.details.append(detail)
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, message, trailing_metadata=trailers)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """An answer for each call; the last one for all further calls."""
    left = list(answers)

    async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await (left.pop(0) if len(left) > 1 else left[0])(request, context)

    return answer


class Held:
    """An answer that is held back until the test, in whatever thread it runs, lets it go."""

    def __init__(self, then: Answer) -> None:
        self._then = then
        self._go = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.arrived = asyncio.Event()
        self.arrived_in_server = threading.Event()

    def let_go(self) -> None:
        assert self._loop is not None, "nothing is held back yet"
        self._loop.call_soon_threadsafe(self._go.set)

    async def __call__(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self._loop = asyncio.get_running_loop()
        self.arrived.set()
        self.arrived_in_server.set()
        await self._go.wait()
        return await self._then(request, context)
