"""A role that is told to stop ends in time, whatever does not answer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.lifecycle import STOP_MARGIN_S
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from dispatchd.v1 import dispatchd_pb2 as pb
from dispatchd.v1 import dispatchd_pb2_grpc as pb_grpc
from gateway.worker_stream import worker
from stores import insert, new_job, open_stores
from tcp_proxy import TcpProxy, proxy_to
from waiting import until

SHUTDOWN_S = 1
SLACK_S = 4.0
"""For a busy machine, where the end of a process is seen late."""
CALLS = 5


@asynccontextmanager
async def in_the_middle_of_work(process: RoleProcess, *servers: TcpProxy) -> AsyncIterator[None]:
    """Calls, or a worker with a result, that wait for servers which have stopped to answer."""
    match process.role:
        case Role.CONTROL_PLANE:
            async with grpc.aio.insecure_channel(process.grpc_address) as channel:
                jobs: pb_grpc.JobServiceAsyncStub = pb_grpc.JobServiceStub(channel)
                request = pb.SubmitJobRequest(job_type="email.send", payload=b"{}")
                job_id = (await jobs.SubmitJob(request, timeout=15.0)).job.job_id
                waits = [jobs.WaitJob(pb.WaitJobRequest(job_id=job_id), timeout=60.0) for _ in range(CALLS)]
                # A later call is answered, so the earlier ones have arrived.
                await jobs.GetJob(pb.GetJobRequest(job_id=job_id), timeout=15.0)
                for server in servers:
                    server.go_deaf()
                submits = [jobs.SubmitJob(request, timeout=60.0) for _ in range(CALLS)]
                yield
                await asyncio.gather(*waits, *submits, return_exceptions=True)
        case Role.WORKER_GATEWAY:
            async with worker(process.grpc_address) as stream:
                await stream.register()
                execution_id = (await stream.assignment()).execution_id
                for server in servers:
                    server.go_deaf()
                await stream.result(execution_id)
                await stream.heartbeat()
                yield
                assert (await stream.ended())[0] is grpc.StatusCode.UNAVAILABLE
        case Role.SCHEDULER:
            for server in servers:
                server.go_deaf()
            yield


async def test_a_role_that_still_waits_for_postgres_ends_when_it_is_told(redis_address: str) -> None:
    lines: list[str] = []
    environ = dict(os.environ) | {
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/jobs",
        "REDIS_ADDRESS": redis_address,
    }
    process = RoleProcess(Role.SCHEDULER, "early", environ, None, free_port(), lambda _, line: lines.append(line))
    await process.start()
    try:
        await until(lambda: any("waiting for the database" in line for line in lines))
        # Its own timer would have ended it as failed.
        assert await process.stop(30.0) == 0
    finally:
        await process.kill()
    assert '"message":"stopped"' in lines[-1]


@pytest.mark.parametrize("role", Role)
async def test_a_role_ends_in_time_although_neither_postgres_nor_redis_answers(
    database_url: str, redis_address: str, role: Role
) -> None:
    host = database_url.rpartition("@")[2].partition("/")[0]
    async with open_stores(database_url) as stores:
        await insert(stores, new_job())
    async with proxy_to(host) as postgres, proxy_to(redis_address) as redis:
        environ = dict(os.environ) | {
            "DATABASE_URL": database_url.replace(host, f"127.0.0.1:{postgres.port}"),
            "REDIS_ADDRESS": f"127.0.0.1:{redis.port}",
            "SHUTDOWN_TIMEOUT_SECONDS": str(SHUTDOWN_S),
        }
        grpc_port = None if role is Role.SCHEDULER else free_port()
        process = RoleProcess(role, role.value, environ, grpc_port, free_port(), lambda _name, _line: None)
        await process.start()
        try:
            await process.wait_ready()
            async with in_the_middle_of_work(process, postgres, redis):
                process.send_signal(signal.SIGTERM)
                # Beyond that its own timer would have ended it.
                await asyncio.wait_for(process.wait_ended(), SHUTDOWN_S + STOP_MARGIN_S + SLACK_S)
        finally:
            await process.kill()
