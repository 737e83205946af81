"""The roles as processes, with Postgres and Redis over TLS: they work, or say what is wrong and find no other way."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from databases import cloned_database
from dispatchd import AsyncClient, JobStatus, Worker
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from sdk.serving import serving
from stores import sql
from tcp_proxy import proxy_to
from tls_servers import TlsPostgres, server_side
from waiting import eventually

PATIENCE_S = 60.0
HURRIED = """
import sys
from dispatchd.cli import main
from dispatchd.entrypoints import lifecycle

lifecycle.START_PATIENCE_S = 3.0
main.main()
"""
"""The command, which waits for its database no longer than that."""


@pytest.fixture
def url(tls_postgres: TlsPostgres) -> Iterator[str]:
    with cloned_database(tls_postgres) as address:
        yield address


def verified(url: str, trusted: DevAuthority) -> str:
    return f"{url}?sslmode=verify-full&sslrootcert={trusted.certificate_file}"


@asynccontextmanager
async def started(
    role: Role, environ: dict[str, str], free_port: Callable[[], int]
) -> AsyncIterator[tuple[RoleProcess, list[str]]]:
    """A role that has been started, ready or not, and the lines it writes."""
    lines: list[str] = []
    grpc_port = None if role is Role.SCHEDULER else free_port()
    process = RoleProcess(
        role,
        role.value,
        os.environ | environ,
        grpc_port,
        free_port(),
        lambda _, line: lines.append(line),
        program=(sys.executable, "-P", "-c", HURRIED),
    )
    await process.start()
    try:
        yield process, lines
    finally:
        await process.stop(PATIENCE_S)


async def metric(process: RoleProcess, name: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{process.probes_url}/metrics") as answer:
        [line] = [line for line in (await answer.text()).splitlines() if line.startswith(f"{name} ")]
    return line.removeprefix(f"{name} ")


async def run_a_job(installation: Installation) -> JobStatus:
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    [gateway] = installation.of_role(Role.WORKER_GATEWAY)
    worker = Worker(gateway.grpc_address, worker_id="w1")

    @worker.task("text.upper")
    def upper(text: str) -> str:
        return text.upper()

    async with serving(worker), AsyncClient(control_plane.grpc_address) as client:
        job = await client.submit(upper, "tls")
        assert await client.result(job, upper, timeout=PATIENCE_S) == "TLS"
        return (await client.get(job)).status


async def test_a_job_goes_its_way_with_postgres_and_redis_over_tls(
    url: str, redis_address: str, authority: DevAuthority, tmp_path: Path
) -> None:
    async with proxy_to(redis_address, server_side(authority)) as redis:
        environ = os.environ | {
            "DATABASE_URL": verified(url, authority),
            "REDIS_ADDRESS": f"rediss://127.0.0.1:{redis.port}",
            "REDIS_TLS_CA_FILE": str(authority.certificate_file),
        }
        async with Installation(tmp_path, environ) as installation:
            assert await run_a_job(installation) is JobStatus.SUCCEEDED
            for process in installation.processes.values():

                async def uses_redis(process: RoleProcess = process) -> bool:
                    return await metric(process, "dispatchd_redis_up") == "1.0"

                await eventually(uses_redis, PATIENCE_S)
            async with sql(url) as session:
                connected = await session.fetch(
                    "select s.ssl from pg_stat_ssl s join pg_stat_activity a using (pid) "
                    "where a.application_name like 'dispatchd %'"
                )
            assert connected
            assert all(row["ssl"] for row in connected)
            assert redis.connections >= len(installation.processes)


async def test_no_role_trusts_a_database_of_another_authority(
    url: str, redis_address: str, stranger: DevAuthority, free_port: Callable[[], int]
) -> None:
    environ = {"DATABASE_URL": verified(url, stranger), "REDIS_ADDRESS": redis_address}
    async with AsyncExitStack() as stack:
        roles = [await stack.enter_async_context(started(role, environ, free_port)) for role in Role]
        for process, lines in roles:
            assert await process.wait_ended() == 1
            said = "\n".join(lines)
            assert "can't start: the database can't be reached: its certificate is not trusted" in said
            assert "Traceback" not in said


async def test_a_role_does_not_trust_a_database_under_another_name(
    url: str, redis_address: str, authority: DevAuthority, free_port: Callable[[], int]
) -> None:
    address = verified(url.replace("127.0.0.1", "localhost"), authority)
    environ = {"DATABASE_URL": address, "REDIS_ADDRESS": redis_address}
    async with started(Role.CONTROL_PLANE, environ, free_port) as (process, lines):
        assert await process.wait_ended() == 1
    said = "\n".join(lines)
    assert "can't start: the database can't be reached: its certificate is not trusted (Hostname mismatch)" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("sslmode=verify-full&sslrootcert=/none.pem", "its sslrootcert /none.pem can't be read"),
        ("sslmode=always", "its sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"),
        ("sslmode=verify-full", "root certificate file"),
        ("sslmode=require&channel_binding=require", "unrecognized configuration parameter"),
    ],
)
async def test_a_role_ends_at_once_where_the_address_can_not_be_right(
    url: str, redis_address: str, tmp_path: Path, free_port: Callable[[], int], options: str, why: str
) -> None:
    environ = {"DATABASE_URL": f"{url}?{options}", "REDIS_ADDRESS": redis_address, "HOME": str(tmp_path)}
    async with started(Role.SCHEDULER, environ, free_port) as (process, lines):
        assert await process.wait_ended() == 2
    said = "\n".join(lines)
    assert why in said
    assert "waiting" not in said
    assert "Traceback" not in said


async def test_without_a_redis_that_can_be_trusted_jobs_go_on_and_the_log_says_why(
    url: str, redis_address: str, authority: DevAuthority, stranger: DevAuthority, tmp_path: Path
) -> None:
    """Redis holds only hints. It is never spoken to in plain text, nor trusted all the same."""
    said: list[Any] = []
    async with proxy_to(redis_address, server_side(authority)) as redis:
        environ = os.environ | {
            "DATABASE_URL": verified(url, authority),
            "REDIS_ADDRESS": f"rediss://127.0.0.1:{redis.port}",
            "REDIS_TLS_CA_FILE": str(stranger.certificate_file),
        }
        async with Installation(tmp_path, environ, log=lambda _, line: said.append(line)) as installation:
            assert await run_a_job(installation) is JobStatus.SUCCEEDED
        assert redis.connections == 0
    told = [line for line in said if "Redis can't be listened to" in line]
    assert told
    assert all("certificate verify failed" in line for line in told)
    assert [line for line in said if "Traceback" in line] == []
