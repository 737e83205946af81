"""Migrations: safe when many start at once, never edited, and a role refuses a schema that does not fit."""

import asyncio
import os
import sys
from collections.abc import Iterator

import asyncpg
import pytest

from databases import EMPTY, cloned_database
from dispatchd.adapters.postgres import migrate as migrate_module
from dispatchd.adapters.postgres.database import Database
from dispatchd.adapters.postgres.migrate import (
    Migration,
    SchemaMismatch,
    check_schema,
    migrate,
    needed_version,
    read_migrations,
)
from dispatchd.application.ports import BatchRejected, DatabaseUnavailable
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.entrypoints.role_process import PROGRAM
from stores import insert, new_job, open_stores, sql
from waiting import until_done, until_waiting

PROCESSES = 8
NEWEST = needed_version()
ANOTHER = Migration(version=NEWEST + 1, name="another", sql="-- oldest code: 1\ncreate table another ()", oldest_code=1)


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without anything in it."""
    with cloned_database(postgres, EMPTY) as url:
        yield url


async def check(url: str) -> None:
    async with Database(url, connections=1, application_name="check") as database:
        await check_schema(database)


async def tables(url: str) -> set[str]:
    async with sql(url) as session:
        return {
            row["tablename"]
            for row in await session.fetch("select tablename from pg_tables where schemaname = 'public'")
        }


async def run(command: str, url: str, **environ: str) -> tuple[int, str]:
    """A command in a process of its own: its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        command,
        env={**os.environ, "DATABASE_URL": url, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written, _ = await process.communicate()
    return process.returncode or 0, written.decode()


# --- at the same moment ---------------------------------------------------------------------------------------------


async def test_eight_processes_that_start_at_the_same_moment_make_one_schema(empty_url: str) -> None:
    assert sys.executable in PROGRAM
    async with sql(empty_url) as session:
        # All of them get to the point where they find that there is nothing yet.
        await session.execute("select pg_advisory_lock($1)", migrate_module._LOCK)
        processes = [
            asyncio.ensure_future(run("migrate", empty_url, PRIMARY_REGION=f"region-{n}")) for n in range(PROCESSES)
        ]
        await until_waiting(session, PROCESSES)
        await session.execute("select pg_advisory_unlock($1)", migrate_module._LOCK)
        ended = await until_done(asyncio.gather(*processes), longest_s=60.0)
        assert [code for code, _ in ended] == [0] * PROCESSES, ended
        steps = await session.fetch("select version from schema_migrations order by version")
        assert [row["version"] for row in steps] == [each.version for each in read_migrations()]
        [region] = await session.fetch("select primary_region, epoch, mode from region")
        assert region["primary_region"].startswith("region-")
        assert (region["epoch"], region["mode"]) == (1, "active")
    await check(empty_url)
    async with open_stores(empty_url) as stores:
        assert stores.region.row.epoch == 1


async def test_one_of_many_applies_the_steps_and_the_others_find_them_applied(empty_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_url) for _ in range(PROCESSES)))
    assert sorted(len(steps) for steps in applied) == [0] * (PROCESSES - 1) + [len(read_migrations())]
    assert await migrate(empty_url) == []


# --- steps ----------------------------------------------------------------------------------------------------------


def test_the_steps_are_numbered_without_a_gap_and_each_says_whom_it_excludes() -> None:
    steps = read_migrations()
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))
    assert all(1 <= step.oldest_code <= step.version for step in steps)
    assert needed_version() == len(steps)


async def test_a_step_that_was_edited_after_it_was_applied_is_refused(empty_url: str) -> None:
    await migrate(empty_url)
    async with sql(empty_url) as session:
        await session.execute("update schema_migrations set sha256 = 'of another wording' where version = 1")
    with pytest.raises(SchemaMismatch, match=r"0001 .* is never edited"):
        await migrate(empty_url)


async def test_a_step_that_fails_leaves_nothing_behind_and_can_be_tried_again(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = read_migrations()
    broken = Migration(NEWEST + 1, "broken", "create table half (); select 1 / 0", 1)
    monkeypatch.setattr(migrate_module, "read_migrations", lambda: [*steps, broken])
    with pytest.raises(BatchRejected, match="22012"):
        await migrate(empty_url)
    assert "half" not in await tables(empty_url)
    async with sql(empty_url) as session:
        assert await session.fetchval("select max(version) from schema_migrations") == NEWEST
    monkeypatch.setattr(migrate_module, "read_migrations", lambda: [*steps, ANOTHER])
    assert await migrate(empty_url) == [ANOTHER]
    assert "another" in await tables(empty_url)


async def test_an_earlier_release_leaves_a_newer_schema_as_it_is(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = read_migrations()
    with monkeypatch.context() as newer:
        newer.setattr(migrate_module, "read_migrations", lambda: [*steps, ANOTHER])
        await migrate(empty_url)
    assert await migrate(empty_url, primary_region="elsewhere") == []
    async with sql(empty_url) as session:
        assert await session.fetchval("select max(version) from schema_migrations") == NEWEST + 1
        assert await session.fetchval("select primary_region from region") == "local"


async def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


# --- what a role works with -----------------------------------------------------------------------------------------


async def test_a_program_refuses_an_older_schema_and_names_both_versions(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SchemaMismatch, match=f"schema version 0, this program needs {NEWEST}: run `dispatchd migrate`"):
        await check(empty_url)
    await migrate(empty_url)
    await check(empty_url)
    monkeypatch.setattr(migrate_module, "needed_version", lambda: NEWEST + 1)
    with pytest.raises(SchemaMismatch, match=f"schema version {NEWEST}, this program needs {NEWEST + 1}"):
        await check(empty_url)


async def test_a_program_works_on_a_newer_schema_unless_that_excludes_it(empty_url: str) -> None:
    await migrate(empty_url)
    step = "insert into schema_migrations (version, name, sha256, oldest_code) values ($1, 'later', '', $2)"
    async with sql(empty_url) as session:
        await session.execute(step, NEWEST + 1, NEWEST)
        await check(empty_url)
        async with open_stores(empty_url) as stores:
            await insert(stores, new_job())
        await session.execute(step, NEWEST + 2, NEWEST + 1)
        complaint = f"schema version {NEWEST + 2}, .* before {NEWEST + 1}; this one was written for {NEWEST}"
        with pytest.raises(SchemaMismatch, match=complaint):
            await check(empty_url)


@pytest.mark.parametrize("role", ["control-plane", "scheduler", "worker-gateway"])
async def test_a_role_ends_at_once_on_a_schema_it_cannot_work_with_and_says_what_to_do(
    empty_url: str, redis_address: str, role: str
) -> None:
    environ = {"REDIS_ADDRESS": redis_address, "GRPC_PORT": "0", "METRICS_PORT": "0"}
    code, written = await run(role, empty_url, **environ)
    assert code == 2
    assert f"schema version 0, this program needs {NEWEST}: run `dispatchd migrate`" in written
    assert "Traceback" not in written
    async with sql(empty_url) as session:
        # It ran no migration by itself.
        assert await session.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0


async def test_the_region_row_is_made_once_and_the_environment_changes_it_no_more(empty_url: str) -> None:
    await migrate(empty_url, primary_region="east")
    await migrate(empty_url, primary_region="west")
    async with sql(empty_url) as session:
        assert [tuple(row) for row in await session.fetch("select primary_region, epoch, mode from region")] == [
            ("east", 1, "active")
        ]
        with pytest.raises(asyncpg.UniqueViolationError):
            await session.execute("insert into region (primary_region, epoch, mode) values ('west', 1, 'active')")
