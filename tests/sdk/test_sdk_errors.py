"""The table from gRPC status codes to errors is complete, and details are read whatever surrounds them."""

from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from dispatchd.sdk.errors import DispatchdError, InvalidRequest, ServerError, Unavailable
from dispatchd.sdk.grpc_status import DETAILS_TRAILER, ERRORS, Refusal, error_from, refusal_of_call, refusal_of_item
from dispatchd.v1 import dispatchd_pb2 as v1


def packed(message: BadRequest | RetryInfo | ErrorInfo) -> AnyMessage:
    wrapped = AnyMessage()
    wrapped.Pack(message)
    return wrapped


def failed_call(code: grpc.StatusCode, *trailers: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), "said the server")


def test_every_status_code_but_ok_has_its_error() -> None:
    assert set(ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("code", sorted(ERRORS, key=str))
def test_every_error_carries_what_the_server_said(code: grpc.StatusCode) -> None:
    error = error_from(Refusal(code, "said the server"))
    assert isinstance(error, DispatchdError)
    assert "said the server" in str(error)


def test_every_caller_gets_an_error_object_of_its_own() -> None:
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "away")
    assert error_from(refusal) is not error_from(refusal)


def test_field_and_delay_are_found_among_other_details() -> None:
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(1_500)
    violations = [BadRequest.FieldViolation(field="priority"), BadRequest.FieldViolation(field="payload")]
    details = [packed(ErrorInfo(reason="x")), packed(BadRequest(field_violations=violations)), packed(retry)]
    trailer = Status(details=details).SerializeToString()
    call = failed_call(grpc.StatusCode.INVALID_ARGUMENT, ("other", "x"), (DETAILS_TRAILER, trailer))
    refusal = refusal_of_call(call)
    assert (refusal.field, refusal.retry_after) == ("priority", timedelta(seconds=1.5))
    error = error_from(refusal)
    assert isinstance(error, InvalidRequest)
    assert error.field == "priority"


@pytest.mark.parametrize("trailer", [b"", b"\xff\xff\xff", b"not a status"])
def test_details_that_are_no_details_do_no_harm(trailer: bytes) -> None:
    refusal = refusal_of_call(failed_call(grpc.StatusCode.UNAVAILABLE, (DETAILS_TRAILER, trailer)))
    assert isinstance(error_from(refusal), Unavailable)


@pytest.mark.parametrize("code", [0, 99, -1])
def test_an_items_code_that_is_no_error_code_is_an_unforeseen_answer(code: int) -> None:
    error = error_from(refusal_of_item(v1.ItemError(code=code, message="?")))
    assert isinstance(error, ServerError)
    assert error.code == "UNKNOWN"
