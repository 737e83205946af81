"""One table from gRPC status codes to the errors that callers see, and the google.rpc details that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from dispatchd.sdk.errors import (
    DeadlineExceeded,
    DispatchdError,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    NotDeadLetter,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RegionPassive,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from dispatchd.v1 import dispatchd_pb2 as v1

DETAILS_TRAILER = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said when it refused: of a whole call, or of one item in it."""

    code: grpc.StatusCode
    message: str
    field: str | None = None
    retry_after: timedelta | None = None

    @property
    def is_expiry(self) -> bool:
        """Whether a token was good and is over: who has a new one may come back at once."""
        return self.code is grpc.StatusCode.UNAUTHENTICATED and self.retry_after == timedelta(0)


def _unforeseen(refusal: Refusal) -> DispatchdError:
    return ServerError(
        f"the server answered {refusal.code.name}: {refusal.message or 'no message'}", code=refusal.code.name
    )


ERRORS: Mapping[grpc.StatusCode, Callable[[Refusal], DispatchdError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: lambda refusal: InvalidRequest(refusal.message, field=refusal.field),
    grpc.StatusCode.NOT_FOUND: lambda refusal: JobNotFound(refusal.message),
    grpc.StatusCode.ALREADY_EXISTS: lambda refusal: IdempotencyConflict(refusal.message),
    grpc.StatusCode.FAILED_PRECONDITION: lambda refusal: RegionPassive(refusal.message),
    grpc.StatusCode.RESOURCE_EXHAUSTED: lambda refusal: Overloaded(refusal.message, retry_after=refusal.retry_after),
    grpc.StatusCode.UNAVAILABLE: lambda refusal: Unavailable(refusal.message, retry_after=refusal.retry_after),
    grpc.StatusCode.DEADLINE_EXCEEDED: lambda refusal: DeadlineExceeded(refusal.message),
    grpc.StatusCode.UNAUTHENTICATED: lambda refusal: Unauthenticated(refusal.message),
    grpc.StatusCode.PERMISSION_DENIED: lambda refusal: PermissionDenied(refusal.message),
    grpc.StatusCode.UNIMPLEMENTED: lambda refusal: NotSupported(refusal.message),
    # Not the caller's doing (that raises CancelledError): a server with too many calls waiting drops some like this.
    grpc.StatusCode.CANCELLED: lambda refusal: Unavailable(f"the server dropped the call: {refusal.message}"),
    # The contract has no use for these: they come from proxies, from gRPC itself, or from a defect.
    grpc.StatusCode.ABORTED: _unforeseen,
    grpc.StatusCode.DATA_LOSS: _unforeseen,
    grpc.StatusCode.INTERNAL: _unforeseen,
    grpc.StatusCode.OUT_OF_RANGE: _unforeseen,
    grpc.StatusCode.UNKNOWN: _unforeseen,
}

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in ERRORS}


def error_from(refusal: Refusal) -> DispatchdError:
    """Return a new error for a refusal; never the same object twice, since each caller raises its own."""
    return ERRORS[refusal.code](refusal)


def redrive_error_from(refusal: Refusal) -> DispatchdError:
    """Return the error for one job of a redrive, where FAILED_PRECONDITION is about the job and not the region."""
    if refusal.code is grpc.StatusCode.FAILED_PRECONDITION:
        return NotDeadLetter(refusal.message)
    return error_from(refusal)


def refusal_of_call(error: grpc.aio.AioRpcError) -> Refusal:
    """Read a failed call, with the field at fault and the retry delay if the server sent them."""
    field, retry_after = _details(error)
    return Refusal(error.code(), error.details() or "", field, retry_after)


def refusal_of_item(error: v1.ItemError) -> Refusal:
    """Read why one item of a call was refused."""
    return Refusal(
        code=_CODES.get(error.code, grpc.StatusCode.UNKNOWN),
        message=error.message,
        field=error.field or None,
        retry_after=error.retry_delay.ToTimedelta() if error.HasField("retry_delay") else None,
    )


def _details(error: grpc.aio.AioRpcError) -> tuple[str | None, timedelta | None]:
    field: str | None = None
    retry_after: timedelta | None = None
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS_TRAILER or not isinstance(value, bytes):
            continue
        try:
            details = Status.FromString(value).details
            for detail in details:
                bad_request, retry_info = BadRequest(), RetryInfo()
                if detail.Unpack(bad_request) and bad_request.field_violations:
                    field = bad_request.field_violations[0].field
                elif detail.Unpack(retry_info):
                    retry_after = retry_info.retry_delay.ToTimedelta()
        except DecodeError:
            continue  # a proxy's or a later server's details; the status code says enough
    return field, retry_after
