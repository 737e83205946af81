"""Roles whose host clocks are hours and days off: one clock decides about leases and times, that of Postgres."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from dispatchd import AsyncClient, Retry, TaskContext, Worker
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from faults.clock_faults import clock_library
from sdk.serving import serving
from stores import sql

CLOCKS = {
    Role.CONTROL_PLANE: timedelta(hours=3),
    Role.SCHEDULER: timedelta(days=-2),
    Role.WORKER_GATEWAY: timedelta(days=2),
}
LEASE_S = 1
LATE = timedelta(seconds=5)
"""Far less than the clocks are off, and more than a busy machine needs."""
LONGEST_S = 60


@asynccontextmanager
async def roles(environ: Mapping[str, str]) -> AsyncIterator[dict[Role, RoleProcess]]:
    """One process of each role, by a clock of its own. Durations stay true (CLOCK_MONOTONIC)."""
    lines: dict[str, list[str]] = {role.value: [] for role in Role}
    library = clock_library()
    assert library is not None, "libfaketime belongs to the packages for tests"
    started = {}
    for role, clock in CLOCKS.items():
        faked = {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{clock.total_seconds():+.0f}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        grpc_port = None if role is Role.SCHEDULER else free_port()
        started[role] = RoleProcess(
            role,
            role.value,
            {**environ, **faked},
            grpc_port,
            free_port(),
            lambda name, line: lines[name].append(line),
        )
    try:
        for process in started.values():
            await process.start()
        for process in started.values():
            await process.wait_ready()
        yield started
    finally:
        for process in started.values():
            await process.stop(15.0)
    for role, clock in CLOCKS.items():
        off = datetime.fromisoformat(json.loads(lines[role][-1])["time"]) - datetime.now(UTC)
        assert abs(off - clock) < timedelta(minutes=5), f"the clock of {role} was not off: {lines[role][-1]}"


async def test_roles_whose_clocks_are_days_off_keep_leases_and_times(database_url: str, redis_address: str) -> None:
    environ = dict(os.environ) | {
        "DATABASE_URL": database_url,
        "REDIS_ADDRESS": redis_address,
        "LEASE_DURATION": f"{LEASE_S}s",
    }
    async with sql(database_url) as session, roles(environ) as running:
        # Else the reaper would wait for a lease after the region changed.
        await session.execute("update region set changed_at = now() - interval '1 day'")
        worker = Worker(running[Role.WORKER_GATEWAY].grpc_address, worker_id="w1")

        @worker.task("report.render")
        async def render(number: int, context: TaskContext) -> int:
            if context.attempt == 1:
                raise Retry("once more", after=1.0)
            async with sql(database_url) as own:
                # By the clock of Postgres: longer than any lease that is not renewed.
                await own.execute(f"select pg_sleep({3 * LEASE_S})")
            return number

        async with AsyncClient(running[Role.CONTROL_PLANE].grpc_address) as client, serving(worker):
            due = datetime.now(UTC) + timedelta(seconds=2)
            job = await client.submit("report.render", 7, run_at=due)
            assert await client.result(job, int, timeout=LONGEST_S) == 7
        rows = await session.fetch(
            "select attempt, end_reason, due_at, claimed_at, finished_at from executions order by delivery"
        )
    assert [(row["attempt"], row["end_reason"]) for row in rows] == [(1, "failed"), (2, "succeeded")]
    assert rows[0]["due_at"] == due
    assert rows[1]["due_at"] - rows[0]["finished_at"] == timedelta(seconds=1)
    for row in rows:
        assert timedelta(0) <= row["claimed_at"] - row["due_at"] < LATE
