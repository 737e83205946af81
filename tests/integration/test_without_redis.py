"""An installation that never had a Redis: all roles are ready, and jobs go all the way."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dispatchd import AsyncClient, Retry, TaskContext, Worker
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role
from sdk.serving import serving

NOBODY_LISTENS = "127.0.0.1:1"
LONGEST_S = 60


async def test_without_redis_all_roles_are_ready_and_jobs_go_all_the_way(tmp_path: Path, database_url: str) -> None:
    environ = dict(os.environ) | {"DATABASE_URL": database_url, "REDIS_ADDRESS": NOBODY_LISTENS}
    # Its start ends when `/readyz` of every role has said yes.
    async with Installation(tmp_path, environ, schedulers=2) as installation:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        [gateway] = installation.of_role(Role.WORKER_GATEWAY)
        worker = Worker(gateway.grpc_address, max_concurrency=4)

        @worker.task("number.double")
        async def double(number: int, context: TaskContext) -> int:
            if number == 0 and context.attempt == 1:
                raise Retry("once more", after=0.1)
            return 2 * number

        async with AsyncClient(control_plane.grpc_address) as client, serving(worker):
            jobs = [await client.submit("number.double", number) for number in range(20)]
            jobs.append(await client.submit("number.double", 20, run_at=datetime.now(UTC) + timedelta(seconds=1)))
            results = [await client.result(job, int, timeout=LONGEST_S) for job in jobs]
            assert results == [2 * number for number in range(21)]
            assert (await client.get(jobs[0])).attempts == 2
