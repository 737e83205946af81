"""Errors as gRPC statuses: one table. The client has its inverse, and a test proves both complete."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum

from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

from dispatchd.domain import errors
from dispatchd.v1 import dispatchd_pb2 as pb


class StatusCode(IntEnum):
    """The codes this contract uses (values of google.rpc.Code)."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODES: dict[type[errors.DispatchdError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.JobNotFound: StatusCode.NOT_FOUND,
    errors.IdempotencyConflict: StatusCode.ALREADY_EXISTS,
    errors.NotDeadLettered: StatusCode.FAILED_PRECONDITION,
    errors.RegionReadOnly: StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.RegisterFirst: StatusCode.FAILED_PRECONDITION,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.Superseded: StatusCode.ABORTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
}

_RETRY_SOON = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended. `details` is a serialised google.rpc.Status, for the trailer grpc-status-details-bin."""

    code: StatusCode
    message: str
    details: bytes = b""


def status_of(error: errors.DispatchdError) -> Status:
    """The status of an error, with BadRequest or RetryInfo where they apply."""
    code = code_of(error)
    return Status(code, str(error), _details(code, error))


def code_of(error: errors.DispatchdError) -> StatusCode:
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    raise TypeError(f"no status for {type(error).__name__}")


def retry_delay_of(error: errors.DispatchdError) -> timedelta | None:
    """When the same call may be tried again, or None if that makes no sense."""
    match error:
        case errors.Overloaded():
            return error.retry_after
        case errors.Unavailable():
            return _RETRY_SOON
        case errors.TokenExpired():
            return timedelta(0)
        case _:
            return None


def item_error(error: errors.DispatchdError) -> pb.ItemError:
    """The error of one item of a list."""
    answer = pb.ItemError(code=code_of(error), message=str(error))
    if isinstance(error, errors.InvalidRequest):
        answer.field = error.field
    if (delay := retry_delay_of(error)) is not None:
        answer.retry_delay.FromTimedelta(delay)
    return answer


def _details(code: StatusCode, error: errors.DispatchdError) -> bytes:
    details = []
    if isinstance(error, errors.InvalidRequest) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.problem)
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if (delay := retry_delay_of(error)) is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromTimedelta(delay)
        details.append(_packed(info))
    if not details:
        return b""
    status: bytes = status_pb2.Status(code=code, message=str(error), details=details).SerializeToString()
    return status


def _packed(message: "error_details_pb2.BadRequest | error_details_pb2.RetryInfo") -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
