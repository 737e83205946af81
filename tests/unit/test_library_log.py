"""What gRPC's library logs about calls: what our handlers did wrong, and not that callers leave."""

import logging

import grpc.aio
import pytest

from dispatchd.adapters.grpc.call import CallPipeline
from dispatchd.adapters.grpc.transport import GrpcServer

LIBRARY = logging.getLogger("grpc._cython.cygrpc")


async def test_a_caller_who_leaves_while_he_is_answered_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    GrpcServer(CallPipeline(audits=False))
    for error in (grpc.aio.InternalError('Failed "execute_batch"'), ValueError("a mistake in a handler")):
        try:
            raise error
        except (grpc.aio.InternalError, ValueError):
            LIBRARY.exception("raised by servicer method [/dispatchd.v1.JobService/GetJob]")
    LIBRARY.warning("something else")
    [mistake, other] = caplog.records
    assert mistake.exc_info is not None
    assert isinstance(mistake.exc_info[1], ValueError)
    assert other.getMessage() == "something else"
