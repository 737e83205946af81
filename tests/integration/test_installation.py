"""Everything on one machine: real servers, real roles, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import asyncpg
import grpc
import pytest

from dispatchd.entrypoints.installation import Installation, InstallationError
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role, SettingsError
from dispatchd.v1 import dispatchd_pb2, dispatchd_pb2_grpc
from waiting import until

DEV = "import os, sys; from pathlib import Path; from dispatchd.entrypoints.dev import run_dev; "
DEV += "sys.exit(run_dev(Path(sys.argv[1]), os.environ, grpc_port=0, metrics_port=0))"


def environ(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_ADDRESS")}
    return kept | changes


async def submit(control_plane: RoleProcess) -> str:
    async with grpc.aio.insecure_channel(control_plane.grpc_address) as channel:
        jobs = dispatchd_pb2_grpc.JobServiceStub(channel)
        request = dispatchd_pb2.SubmitJobRequest(job_type="report.render", payload=b"{}")
        answer = await jobs.SubmitJob(request, timeout=10.0)
        return answer.job.job_id


async def test_an_embedded_installation_keeps_its_jobs_over_a_restart(tmp_path: Path) -> None:
    installation = Installation(tmp_path, environ(), postgres_settings={"fsync": "off"})
    async with installation:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        job_id = await submit(control_plane)
        url = installation.database_url
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url)
    async with installation:
        connection = await asyncpg.connect(installation.database_url)
        try:
            assert await connection.fetchval("select count(*) from jobs") == 1
        finally:
            await connection.close()
    assert job_id.startswith("job_")


async def test_given_servers_are_used_and_a_killed_role_comes_back(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    given = environ(DATABASE_URL=database_url, REDIS_ADDRESS=redis_address)
    async with Installation(tmp_path, given, worker_gateways=2) as installation:
        assert (installation.postgres, installation.valkey) == (None, None)
        assert [process.name for process in installation.of_role(Role.WORKER_GATEWAY)] == [
            "worker-gateway",
            "worker-gateway-2",
        ]
        supervisor = asyncio.create_task(installation.supervise())
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        await submit(control_plane)
        await control_plane.kill()
        await control_plane.wait_started()
        await control_plane.wait_ready()
        await submit(control_plane)
        supervisor.cancel()
        await asyncio.wait({supervisor})


async def test_servers_that_end_by_themselves_are_told_of_and_started_again(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    installation = Installation(
        tmp_path,
        environ(),
        control_planes=0,
        schedulers=0,
        worker_gateways=0,
        postgres_settings={"fsync": "off"},
        log=lambda name, line: said.append((name, line)),
    )
    async with installation:
        supervisor = asyncio.create_task(installation.supervise())
        for server in (installation.valkey, installation.postgres):
            assert server is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda title=server.title: (title, "runs again") in said, longest_s=60)  # type: ignore[misc]
            assert (server.title, "ended and starts again") in said
        connection = await asyncpg.connect(installation.database_url)
        await connection.close()
        supervisor.cancel()
        await asyncio.wait({supervisor})


async def test_a_folder_serves_one_installation_at_a_time(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    given = environ(DATABASE_URL=database_url, REDIS_ADDRESS=redis_address)
    async with Installation(tmp_path, given, control_planes=0, schedulers=0, worker_gateways=0):
        with pytest.raises(InstallationError, match="Another installation is running"):
            await Installation(tmp_path, given).start()


async def test_mistakes_and_taken_ports_are_told_before_any_role_starts(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    given = environ(DATABASE_URL=database_url, REDIS_ADDRESS=redis_address)
    with pytest.raises(SettingsError, match="LEASE_DURATION"):
        await Installation(tmp_path, given | {"LEASE_DURATION": "long"}).start()
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "0.0.0.0", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(InstallationError, match=f"The gRPC port {port} of control-plane is taken"):
            await Installation(tmp_path, given, grpc_port=port).start()


def test_dev_says_where_everything_is_and_ctrl_c_stops_it_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DEV, str(tmp_path)]
    with subprocess.Popen(command, env=environ(), stdout=subprocess.PIPE, text=True) as dev:
        assert dev.stdout is not None
        before = _read_until(dev.stdout, "Ctrl-C stops everything")
        dev.send_signal(signal.SIGINT)
        after = dev.stdout.read()
        assert dev.wait(60) == 0
    assert "\n  PostgreSQL " in before
    assert "\n  worker-gateway " in before
    assert "password is in" in before
    assert (tmp_path / "postgres" / "password").read_text() not in before + after
    assert after.endswith("everything has stopped\n")
    assert "is killed" not in after


def _read_until(lines: Iterable[str], words: str) -> str:
    text = ""
    for line in lines:
        text += line
        if words in line:
            return text
    pytest.fail(f"this ended without {words!r}:\n{text}")
