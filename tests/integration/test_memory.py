"""Refused calls leave nothing behind that only the garbage collector would free."""

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on
from dispatchd.v1 import dispatchd_pb2 as pb
from garbage import collected_late


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


async def refused(plane: ControlPlane, service: str, method: str, data: bytes) -> grpc.StatusCode:
    """The status of a call that must fail."""
    try:
        await plane.raw(service, method, data)
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    raise AssertionError(f"{method} took it")


async def test_a_refused_call_lets_its_request_go_at_once(plane: ControlPlane) -> None:
    bad = pb.SubmitJobRequest(job_type="bad type", payload=bytes(1024 * 1024)).SerializeToString()
    nonsense = b"\xff" * 100_000
    with collected_late() as garbage:
        for _ in range(3):
            assert await refused(plane, "dispatchd.v1.JobService", "SubmitJob", bad) is grpc.StatusCode.INVALID_ARGUMENT
            assert (
                await refused(plane, "dispatchd.v1.JobService", "GetJob", nonsense) is grpc.StatusCode.INVALID_ARGUMENT
            )
            assert await refused(plane, "grpc.health.v1.Health", "Check", nonsense) is grpc.StatusCode.INVALID_ARGUMENT
        await plane.submit()
    assert garbage.frames == []
