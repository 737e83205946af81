"""Roles as child processes: readiness, signals, starting again, and what is said when one fails.

The program in these tests stands in for a role, with the real settings, logs and probes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from dispatchd.entrypoints.role_process import RoleFailed, RoleProcess
from dispatchd.entrypoints.settings import Role
from waiting import until

STAND_IN = """
import asyncio, logging, os, signal, sys
from dispatchd.entrypoints.http_probes import serve_probes
from dispatchd.entrypoints.settings import Role, load_settings
from dispatchd.telemetry.logs import configure_logging
from dispatchd.telemetry.metrics import REGISTRY

async def run():
    settings = load_settings(Role(sys.argv[1]), os.environ)
    configure_logging(settings.log_level, settings.role, settings.instance_id, settings.region)
    stopping = asyncio.Event()
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async def ready():
        return os.environ.get("NOT_READY") or None
    async with serve_probes(settings.metrics_port, ready, REGISTRY, "127.0.0.1"):
        logging.getLogger("stand-in").info("serving")
        await stopping.wait()
    sys.exit(7)

asyncio.run(run())
"""

Start = Callable[..., RoleProcess]


@pytest.fixture
async def role(free_port: Callable[[], int]) -> AsyncIterator[Start]:
    started: list[RoleProcess] = []

    def make(lines: list[str] | None = None, **environ: str) -> RoleProcess:
        process = RoleProcess(
            Role.SCHEDULER,
            "scheduler",
            {**os.environ, "DATABASE_URL": "postgresql://db/jobs", "REDIS_ADDRESS": "cache:6379", **environ},
            None,
            free_port(),
            lambda _name, line: (lines if lines is not None else []).append(line),
            program=(sys.executable, "-P", "-c", STAND_IN),
        )
        started.append(process)
        return process

    yield make
    for process in started:
        await process.kill()


async def test_a_role_is_ready_when_it_says_so_and_stops_when_asked(role: Start) -> None:
    lines: list[str] = []
    process = role(lines)
    await process.start()
    await process.wait_ready()
    assert await process.stop(10.0) == 7
    assert not process.running
    assert '"message":"serving"' in lines[0]


async def test_a_killed_role_is_noticed_and_starts_again_at_the_same_address(role: Start) -> None:
    process = role()
    await process.start()
    await process.wait_ready()
    address, first = process.probes_url, process.pid
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait_ended() == -signal.SIGKILL
    assert process.describe_end() == "killed by SIGKILL"
    await process.start()
    await process.wait_ready()
    assert (process.probes_url, process.pid == first) == (address, False)


async def test_a_role_that_does_not_stop_in_time_is_killed(role: Start) -> None:
    lines: list[str] = []
    process = role(lines, STUBBORN="yes")
    await process.start()
    await process.wait_ready()
    assert await process.stop(0.1) == -signal.SIGKILL
    assert lines[-1] == "did not end within 0.1 s and is killed"


async def test_a_role_that_ends_early_is_reported_with_its_last_words(role: Start) -> None:
    process = role(LEASE_DURATION="never")
    await process.start()
    with pytest.raises(RoleFailed, match=r"(?s)ended before it was ready \(exit code 1\).*LEASE_DURATION: read"):
        await process.wait_ready()


async def test_a_role_that_does_not_get_ready_is_reported_with_its_reason(role: Start) -> None:
    lines: list[str] = []
    process = role(lines, NOT_READY="the database is away")
    await process.start()
    await until(lambda: bool(lines))
    with pytest.raises(RoleFailed, match="not ready: the database is away"):
        await process.wait_ready(1.0)


async def test_every_start_has_an_instance_id_of_its_own(role: Start) -> None:
    process = role()
    assert process.environ["INSTANCE_ID"] != process.environ["INSTANCE_ID"]
    assert process.environ["METRICS_PORT"] == str(process.metrics_port)


async def test_two_waits_for_the_end_both_return(role: Start) -> None:
    process = role()
    await process.start()
    await process.wait_ready()
    waits = [asyncio.create_task(process.wait_ended()) for _ in range(2)]
    await process.kill()
    assert await asyncio.gather(*waits) == [-signal.SIGKILL] * 2
