"""The contexts of grpc.aio's calls: what is read from them, and how a call is refused."""

from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from dispatchd.adapters.grpc.call import Call
from dispatchd.adapters.grpc.headers import Headers
from dispatchd.adapters.grpc.status import Status, StatusCode

_DETAILS_TRAILER = "grpc-status-details-bin"
_CODES = {StatusCode[code.name]: code for code in grpc.StatusCode if code.name in StatusCode.__members__}

Context = grpc.aio.ServicerContext[Any, Any]


def call_of(label: str, headers: Headers, context: Context) -> Call:
    remaining = context.time_remaining()
    return Call(
        method=label,
        metadata=headers.texts,
        headers=headers.number,
        peer=context.peer(),
        certificate_names=_certificate_names(context),
        time_remaining=None if remaining is None else timedelta(seconds=remaining),
    )


def _certificate_names(context: Context) -> tuple[str, ...]:
    auth = context.auth_context()
    if not auth:
        return ()
    return tuple(name.decode(errors="replace") for name in auth.get("x509_subject_alternative_name", ()))


async def read_message(context: Context) -> bytes | None:
    """The next message; None when the caller sends no more."""
    data = await context.read()
    return None if data is grpc.aio.EOF else data


def refuse(context: Context, status: Status) -> bytes:
    """Ends a call with this status when its handler returns, which may return what this returns.

    `context.abort` does it by an exception that gRPC keeps, with the frame it came from and the request in that frame:
    a cycle, so that each refused call keeps its megabytes until the next full garbage collection.
    """
    context.set_code(_CODES[status.code])
    context.set_details(status.message)
    if status.details:
        context.set_trailing_metadata(((_DETAILS_TRAILER, status.details),))
    return b""
