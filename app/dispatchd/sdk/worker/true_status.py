"""A workaround for grpc.aio: the server's status must survive a write that fails at the same moment.

When a server ends a stream while the client is writing, grpc.aio records INTERNAL for the failed write, in place of the
status that the server sent or is about to send (seen in about 40 % of such ends with grpcio 1.85). A superseded worker
could not know that it is superseded. Without that record the failed write waits for the real status and raises it.
"""

from __future__ import annotations

from typing import Any

import grpc.aio

_PRIVATE = "_cython_call"


class _WithoutInternalError:
    """The inner call, except that a failed write leaves no status behind."""

    def __init__(self, call: Any):
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def set_internal_error(self, message: str) -> None:
        """Leave the status to the server, or to gRPC's own verdict on the connection."""


def keep_true_status(call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
    """Make `call` report the status that ended it. Does nothing where grpc.aio is built differently."""
    inner = getattr(call, _PRIVATE, None)
    if hasattr(inner, "set_internal_error"):
        setattr(call, _PRIVATE, _WithoutInternalError(inner))
