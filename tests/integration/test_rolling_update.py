"""A release works on the schema of the next one, while that is made and after it: a rolling update needs no downtime.

The next schema here is what a migration may do under a running release: it adds a column that may be null to every
table and to the view, and a table.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from dispatchd import AsyncClient, Fail, Job, JobFailed, JobStatus, Worker
from dispatchd.adapters.postgres import migrate as migrate_module
from dispatchd.adapters.postgres.migrate import Migration, migrate, read_migrations
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role
from sdk.serving import serving
from stores import sql

PATIENCE_S = 60


async def next_migration(url: str) -> Migration:
    """One step more than this release has; it excludes nobody."""
    async with sql(url) as session:
        tables = [row[0] for row in await session.fetch("select tablename from pg_tables where schemaname = 'public'")]
        view: str = await session.fetchval("select pg_get_viewdef('job_summaries'::regclass)")
    columns, last, sources = view.partition(" AS last_error")
    assert last
    steps = [
        *(f"alter table {table} add column added_later text" for table in sorted(tables)),
        f"create or replace view job_summaries as {columns}{last}, j.added_later{sources.rstrip(';')}",
        "create table added_later (job_id uuid primary key, note text)",
    ]
    version = read_migrations()[-1].version + 1
    return Migration(version, "later", ";\n".join(steps), oldest_code=1)


@asynccontextmanager
async def users_of(installation: Installation) -> AsyncIterator[AsyncClient]:
    """A client, and a worker that can't do everything."""
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    [gateway] = installation.of_role(Role.WORKER_GATEWAY)
    worker = Worker(gateway.grpc_address, worker_id="w1")
    tried: set[str] = set()

    @worker.task("text.upper")
    def upper(text: str) -> str:
        if text not in tried:
            tried.add(text)
            raise RuntimeError("works at the second try")
        return text.upper()

    @worker.task("text.lose")
    def lose(text: str) -> str:
        raise Fail("never works")

    async with serving(worker), AsyncClient(control_plane.grpc_address) as client:
        yield client


async def use(client: AsyncClient, word: str) -> None:
    """A retry, a repeated submit, a cancel, a dead letter and its redrive, and everything that can be read."""
    submit = partial(client.submit, "text.upper", word, idempotency_key=word, initial_backoff=0.01)
    job = await submit()
    assert (await submit()).job_id == job.job_id
    assert await client.result(job, str, timeout=PATIENCE_S) == word.upper()
    assert [execution.attempt async for execution in client.executions(job)] == [1, 2]
    late = await client.submit("text.upper", word, run_at=datetime.now(UTC) + timedelta(hours=1))
    assert (await client.cancel(late)).status is JobStatus.CANCELED
    lost = await client.submit("text.lose", word)
    for _ in range(2):
        with pytest.raises(JobFailed):
            await client.result(lost, timeout=PATIENCE_S)
        assert lost.job_id in [letter.job_id async for letter in client.dead_letters()]
        [redriven] = await client.redrive([lost])
        assert isinstance(redriven, Job)
    await client.queues()
    assert [registered.worker_id async for registered in client.workers()] == ["w1"]


async def test_the_release_before_works_on_and_starts_on_a_schema_with_new_columns_and_tables(
    tmp_path: Path, database_url: str, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, step = read_migrations(), await next_migration(database_url)
    environ = os.environ | {"DATABASE_URL": database_url, "REDIS_ADDRESS": redis_address}
    lines: list[str] = []
    async with Installation(tmp_path, environ, log=lambda _, line: lines.append(line)) as installation:
        async with users_of(installation) as client:
            await use(client, "before")
            # The hook of the next release, beside the roles of this one.
            with monkeypatch.context() as next_release:
                next_release.setattr(migrate_module, "read_migrations", lambda: [*ours, step])
                assert await migrate(database_url) == [step]
            await use(client, "after")
        for process in installation.processes.values():
            await process.stop(PATIENCE_S)
            await process.start()
            await process.wait_ready(PATIENCE_S)
        async with users_of(installation) as client:
            await use(client, "again")
    assert not [line for line in lines if '"level":"error"' in line.replace(" ", "")]
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from jobs where added_later is null") == 9
