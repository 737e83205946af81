"""One table from errors to statuses, complete, and read back by the client as what they were."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from control_planes import details
from dispatchd.adapters.grpc.call import Call
from dispatchd.adapters.grpc.status import CODES, StatusCode, code_of, item_error, status_of
from dispatchd.application import ports
from dispatchd.domain import errors
from dispatchd.sdk import errors as sdk_errors
from dispatchd.sdk.grpc_status import error_from, redrive_error_from, refusal_of_call, refusal_of_item
from grpc_servers import address_of, serving

EXAMPLES: list[tuple[errors.DispatchdError, StatusCode, type[sdk_errors.DispatchdError] | None]] = [
    (errors.InvalidRequest("job_type", "must not be empty"), StatusCode.INVALID_ARGUMENT, sdk_errors.InvalidRequest),
    (errors.JobNotFound("job_1"), StatusCode.NOT_FOUND, sdk_errors.JobNotFound),
    (errors.IdempotencyConflict("job_1"), StatusCode.ALREADY_EXISTS, sdk_errors.IdempotencyConflict),
    (errors.NotDeadLettered("job_1", "active"), StatusCode.FAILED_PRECONDITION, sdk_errors.NotDeadLetter),
    (errors.RegionReadOnly("passive"), StatusCode.FAILED_PRECONDITION, sdk_errors.RegionPassive),
    (errors.Overloaded("full", timedelta(seconds=7)), StatusCode.RESOURCE_EXHAUSTED, sdk_errors.Overloaded),
    (errors.Unavailable("stopping"), StatusCode.UNAVAILABLE, sdk_errors.Unavailable),
    (ports.DatabaseUnavailable("away"), StatusCode.UNAVAILABLE, sdk_errors.Unavailable),
    (ports.DatabaseMisconfigured("no such file"), StatusCode.UNAVAILABLE, sdk_errors.Unavailable),
    (ports.TransientConflict("conflict"), StatusCode.UNAVAILABLE, sdk_errors.Unavailable),
    (errors.Unauthenticated("no token"), StatusCode.UNAUTHENTICATED, sdk_errors.Unauthenticated),
    (errors.PermissionDenied("not you"), StatusCode.PERMISSION_DENIED, sdk_errors.PermissionDenied),
    # On a worker's stream only, where the SDK's worker reads them.
    (errors.TokenExpired(), StatusCode.UNAUTHENTICATED, None),
    (errors.RegisterFirst("nobody"), StatusCode.FAILED_PRECONDITION, None),
    (errors.Superseded("worker-1"), StatusCode.ABORTED, None),
]


def all_errors(base: type[errors.DispatchdError] = errors.DispatchdError) -> Iterator[type[errors.DispatchdError]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("dispatchd."):
            yield kind
            yield from all_errors(kind)


def test_every_error_has_a_status_and_stands_here() -> None:
    assert {type(error) for error, _, _ in EXAMPLES} == set(all_errors())
    for error, code, _ in EXAMPLES:
        assert code_of(error) is code
        assert code_of(error).name in grpc.StatusCode.__members__
    assert set(CODES) <= set(all_errors())


def test_a_code_has_the_number_of_its_name() -> None:
    assert {code.name: code.value for code in StatusCode} == {
        code.name: code.value[0] for code in grpc.StatusCode if code.name in StatusCode.__members__
    }


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A server that answers request `n` with the n-th error, and any other with a defect."""

    async def fail(_: Call, request: bytes) -> bytes:
        if request == b"hello":
            return b"hello"
        if not request.isdigit():
            raise ZeroDivisionError("a text for nobody's eyes")
        raise EXAMPLES[int(request)][0]

    async with serving("Fail", fail) as server, grpc.aio.insecure_channel(address_of(server)) as channel:
        yield channel


async def call(channel: grpc.aio.Channel, request: bytes) -> grpc.aio.AioRpcError:
    fail: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Fail")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await fail(request, timeout=10.0)
    return failed.value


async def test_each_error_arrives_with_its_code_its_text_and_its_details(channel: grpc.aio.Channel) -> None:
    for n, (error, code, kind) in enumerate(EXAMPLES):
        arrived = await call(channel, str(n).encode())
        assert (arrived.code().name, arrived.details()) == (code.name, str(error))
        expected: list[type] = []
        if isinstance(error, errors.InvalidRequest):
            expected = [error_details_pb2.BadRequest]
        elif isinstance(error, errors.Overloaded | errors.Unavailable | errors.TokenExpired):
            expected = [error_details_pb2.RetryInfo]
        assert [type(detail) for detail in details(arrived)] == expected
        if kind is None:
            continue
        refusal = refusal_of_call(arrived)
        read = redrive_error_from(refusal) if kind is sdk_errors.NotDeadLetter else error_from(refusal)
        assert type(read) is kind
        assert str(error) in str(read)


def test_the_error_of_an_item_is_read_as_that_of_a_call() -> None:
    for error, code, kind in EXAMPLES:
        message = item_error(error)
        assert message.code == code
        if kind is None:
            continue
        refusal = refusal_of_item(message)
        read = redrive_error_from(refusal) if kind is sdk_errors.NotDeadLetter else error_from(refusal)
        assert type(read) is kind
        match error:
            case errors.InvalidRequest():
                assert refusal.field == error.field
            case errors.Overloaded():
                assert refusal.retry_after == error.retry_after
            case errors.Unavailable():
                assert refusal.retry_after == timedelta(seconds=1)
            case _:
                assert (refusal.field, refusal.retry_after) == (None, None)


async def test_a_defect_is_unavailable_says_where_to_look_and_ends_nothing(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    arrived = await call(channel, b"defect")
    assert arrived.code() is grpc.StatusCode.UNAVAILABLE
    text = arrived.details() or ""
    assert "nobody's eyes" not in text
    assert "Traceback" not in text
    assert "request id" in text
    assert "nobody's eyes" in caplog.text
    fail: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Fail")
    assert await fail(b"hello", timeout=10.0) == b"hello"


async def test_a_request_id_of_the_caller_is_used_and_cut(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    fail: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Fail")
    with pytest.raises(grpc.aio.AioRpcError, match="x" * 200) as failed:
        await fail(b"defect", timeout=10.0, metadata=(("x-request-id", "x" * 3_000),))
    assert "x" * 201 not in (failed.value.details() or "")


async def test_a_method_or_service_that_is_not_there_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for path in ("/test.Service/Other", "/dispatchd.v1.JobService/SubmitJob"):
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await method(b"", timeout=10.0)
        assert missing.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_status_is_small_enough_for_a_trailer() -> None:
    long = "ü" * 200
    for error in (errors.Superseded(long), errors.RegisterFirst(long), errors.InvalidRequest("job_type", long)):
        status = status_of(error)
        assert len(status.message.encode()) + len(status.details) < 4_000
