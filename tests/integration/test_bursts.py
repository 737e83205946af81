"""More calls at the same moment than the server can begin at once."""

import asyncio
from collections import Counter
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role

CONNECTIONS = 2
CALLS = 2_400
"""On each of them. gRPC's own bound for all is 3,000."""


async def test_a_burst_of_calls_is_answered_and_not_dropped(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    environ = {"DATABASE_URL": database_url, "REDIS_ADDRESS": redis_address}
    async with Installation(tmp_path, environ) as installation:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        answers = await asyncio.gather(*(burst(control_plane.grpc_address) for _ in range(CONNECTIONS)))
    assert sum(answers, Counter()) == {"OK": CONNECTIONS * CALLS}


async def burst(address: str) -> Counter[str]:
    """The codes of many calls on one connection."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        async def call() -> str:
            try:
                await check(health_pb2.HealthCheckRequest(), timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        return Counter(await asyncio.gather(*(call() for _ in range(CALLS))))
