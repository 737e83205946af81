"""Retention: what has ended goes after its time, with everything that belongs to it, and nothing else does."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from dispatchd.adapters.postgres import recovery
from dispatchd.application.scheduler import retention
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.application.scheduler.retention import RetentionSweeper
from dispatchd.domain.errors import JobNotFound
from dispatchd.domain.ids import JobId
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.region import RegionFence
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Failed, Succeeded
from scheduler_loops import leadership_at
from stores import FENCE, Stores, insert, new_job, open_stores, register, running, sql
from waiting import eventually, until_done

KEEP, KEEP_DEAD_LETTERS = timedelta(hours=168), timedelta(hours=720)
Session = asyncpg.Connection


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAUSE_S", 0.0)


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def leadership(redis_address: str) -> AsyncIterator[Leadership]:
    async with leadership_at(redis_address) as leadership:
        yield leadership


def sweeper(stores: Stores, leadership: Leadership, keep: timedelta = KEEP) -> RetentionSweeper:
    return RetentionSweeper(
        stores.recovery,
        stores.region,
        leadership,
        keep=keep,
        keep_dead_letters=KEEP_DEAD_LETTERS,
        look_every=timedelta(milliseconds=20),
    )


async def jobs_in_every_state(stores: Stores) -> dict[JobStatus, JobId]:
    """One job in each state, with several executions where it can have them."""
    hands = await register(stores)
    policy = RetryPolicy(2, timedelta(0), timedelta(0))

    async def attempt(ending: Succeeded | Failed) -> JobId:
        held = await hands.claim_one()
        await hands.end(ending, held.execution_id)
        return held.job_id

    found = {}
    await insert(stores, new_job(policy=policy))
    await attempt(Failed("no"))
    found[JobStatus.SUCCEEDED] = await attempt(Succeeded(b"1"))
    await insert(stores, new_job(policy=policy))
    await attempt(Failed("no"))
    found[JobStatus.FAILED] = await attempt(Failed("no"))
    [job] = await insert(stores, new_job())
    await stores.jobs.cancel(job.view.job_id, FENCE)
    found[JobStatus.CANCELED] = job.view.job_id
    await insert(stores, new_job())
    found[JobStatus.DISPATCHING] = (await hands.claim_one()).job_id
    [job] = await insert(stores, new_job())
    found[JobStatus.PENDING] = job.view.job_id
    return found


async def age(session: "Session[asyncpg.Record]", by: timedelta) -> None:
    """Makes everything older."""
    for table, columns in {
        "jobs": ("created_at", "updated_at", "finished_at"),
        "executions": ("created_at", "finished_at"),
        "worker_sessions": ("started_at", "last_seen_at", "lease_expires_at", "closed_at", "ended_at"),
    }.items():
        await session.execute(
            f"update {table} set " + ", ".join(f"{each} = {each} - $1::interval" for each in columns), by
        )


async def left(stores: Stores, jobs: dict[JobStatus, JobId]) -> set[JobStatus]:
    found = set()
    for status, job_id in jobs.items():
        try:
            assert (await stores.jobs.get(job_id)).status is status
        except JobNotFound:
            continue
        found.add(status)
    return found


async def orphans(session: "Session[asyncpg.Record]") -> int:
    count: int = await session.fetchval(
        "select (select count(*) from executions e where not exists (select 1 from jobs j where j.job_id = e.job_id)) "
        "+ (select count(*) from job_inputs i where not exists (select 1 from jobs j where j.job_id = i.job_id))"
    )
    return count


async def test_ended_jobs_go_after_their_time_with_all_that_belongs_to_them(
    stores: Stores, session: "Session[asyncpg.Record]", leadership: Leadership
) -> None:
    jobs = await jobs_in_every_state(stores)
    everything = set(jobs)
    hour = timedelta(hours=1)
    running_ones = {JobStatus.DISPATCHING, JobStatus.PENDING}
    for older_by, expected in (
        (KEEP - hour, everything),
        (2 * hour, {JobStatus.FAILED, *running_ones}),
        (KEEP_DEAD_LETTERS - KEEP - 2 * hour, {JobStatus.FAILED, *running_ones}),
        (2 * hour, running_ones),
        (100 * KEEP, running_ones),
    ):
        await age(session, older_by)
        await sweeper(stores, leadership).sweep()
        assert await left(stores, jobs) == expected
        assert await orphans(session) == 0


async def test_what_has_to_go_goes_in_bounded_batches_by_the_loop(
    stores: Stores, session: "Session[asyncpg.Record]", leadership: Leadership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    await session.execute(
        "create table swept (xid xid8, job_id uuid); "
        "create function note() returns trigger language plpgsql as $$ "
        "begin insert into swept values (pg_current_xact_id(), old.job_id); return null; end $$; "
        "create trigger note after delete on jobs for each row execute function note()"
    )
    stored = await insert(stores, *(new_job() for _ in range(45)))
    for job in stored[:35]:
        await stores.jobs.cancel(job.view.job_id, FENCE)
    await age(session, KEEP + timedelta(hours=1))
    async with running(sweeper(stores, leadership).run()):

        async def swept() -> bool:
            return bool(await session.fetchval("select count(*) from swept") == 35)

        await eventually(swept)
        # And what comes of age later goes later.
        for job in stored[35:]:
            await stores.jobs.cancel(job.view.job_id, FENCE)
        await age(session, KEEP + timedelta(hours=1))

        async def all_swept() -> bool:
            return bool(await session.fetchval("select count(*) from jobs") == 0)

        await eventually(all_swept)
    batches = await session.fetch("select count(*) as size from swept group by xid")
    assert max(row["size"] for row in batches) <= 10


async def test_the_oldest_go_first(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    stored = await insert(stores, *(new_job() for _ in range(10)))
    for job in stored[::-1]:
        await stores.jobs.cancel(job.view.job_id, FENCE)
    assert await stores.recovery.delete_finished([JobState.CANCELED], timedelta(0), 4, FENCE) == 4
    kept = {row["job_id"] for row in await session.fetch("select job_id from jobs")}
    assert kept == {job.view.job_id for job in stored[:6]}


async def test_a_job_that_somebody_has_locked_is_left_for_the_next_time(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    stored = await insert(stores, new_job(), new_job())
    for job in stored:
        await stores.jobs.cancel(job.view.job_id, FENCE)
    async with session.transaction():
        await session.execute("select 1 from jobs where job_id = $1 for update", stored[0].view.job_id)
        deleting = stores.recovery.delete_finished([JobState.CANCELED], timedelta(0), 10, FENCE)
        assert await until_done(asyncio.ensure_future(deleting)) == 1
    assert await stores.recovery.delete_finished([JobState.CANCELED], timedelta(0), 10, FENCE) == 1


async def test_sessions_and_workers_that_were_not_seen_for_the_time_go_too(
    stores: Stores, session: "Session[asyncpg.Record]", leadership: Leadership
) -> None:
    for n in range(4):
        await register(stores, f"gone-{n}")
    await register(stores, "came back")
    holder = await register(stores, "holder")
    await insert(stores, new_job())
    await holder.claim_one()
    await session.execute("update worker_sessions set ended_at = now()")
    await age(session, KEEP + timedelta(hours=1))
    back = await register(stores, "came back")
    await sweeper(stores, leadership).sweep()
    workers = {row["worker_id"] for row in await session.fetch("select worker_id from workers")}
    sessions = {row["session_id"] for row in await session.fetch("select session_id from worker_sessions")}
    assert workers == {"came back"}
    # A session on which something still stands is the reaper's first.
    assert sessions == {back.session_id, holder.session_id}


async def test_workers_that_are_there_stay_however_old(
    stores: Stores, session: "Session[asyncpg.Record]", leadership: Leadership
) -> None:
    await register(stores, "old and alive")
    await age(session, 10 * KEEP)
    await sweeper(stores, leadership).sweep()
    assert await session.fetchval("select count(*) from workers") == 1
    assert await session.fetchval("select count(*) from worker_sessions") == 1


async def test_workers_go_in_bounded_batches(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    for n in range(12):
        await register(stores, f"gone-{n}")
    await session.execute("update worker_sessions set ended_at = now() - interval '1 hour'")
    deleted = await stores.recovery.delete_sessions_and_workers(timedelta(0), 5, FENCE)
    assert deleted == 10
    assert await session.fetchval("select count(*) from workers") == 7
    assert await session.fetchval("select count(*) from worker_sessions") == 7


async def test_a_passive_region_deletes_nothing(
    database_url: str, stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    jobs = await jobs_in_every_state(stores)
    await session.execute("update worker_sessions set ended_at = now()")
    await age(session, 10 * KEEP)
    passive = RegionFence("elsewhere")
    ended = [JobState.SUCCEEDED, JobState.CANCELED, JobState.FAILED]
    assert await stores.recovery.delete_finished(ended, timedelta(0), 10, passive) == 0
    assert await stores.recovery.delete_sessions_and_workers(timedelta(0), 10, passive) == 0
    assert await left(stores, jobs) == set(jobs)


async def test_a_batch_is_bounded_in_bytes_and_one_job_goes_in_any_case(
    stores: Stores, session: "Session[asyncpg.Record]", leadership: Leadership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_DELETED_BYTES", 2_500_000)
    stored = await insert(stores, *(new_job(payload=os.urandom(1_000_000)) for _ in range(4)))
    stored += await insert(stores, new_job(payload=b"small"), new_job(payload=os.urandom(2_000_000)))
    hands = await register(stores)
    held = await hands.claim(len(stored))
    await hands.end(Succeeded(os.urandom(1_000_000)), *(each.execution_id for each in held))
    sizes = []
    while size := await stores.recovery.delete_finished([JobState.SUCCEEDED], timedelta(0), 100, FENCE):
        sizes.append(size)
    # Input and result count; a batch ends with the job that passes the bound.
    assert sizes == [2, 2, 2]
    assert await orphans(session) == 0
    assert await session.fetchval("select count(*) from job_inputs") == 0
