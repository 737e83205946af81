"""What waits for its time starts in time: run_at and retries, by the scheduler's real loop."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from dispatchd.adapters.postgres.recovery import PostgresRecoveryStore
from dispatchd.application.ports import Demand
from dispatchd.application.scheduler import due_queuer
from dispatchd.application.scheduler.due_queuer import DueQueuer
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.domain.ids import IdGenerator
from dispatchd.domain.job import JobStatus
from dispatchd.domain.region import RegionFence
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Failed
from dispatchd.domain.submission import Submission
from scheduler_loops import HOUR, leadership_at, queuing
from stores import FENCE, Stores, from_now, insert, new_job, open_stores, register, running, sql
from waiting import eventually

LATE = timedelta(milliseconds=250)
NEVER = "127.0.0.1:1"

# When an execution became ready, by the database's own clock.
WATCH = """
create table became_ready (execution_id uuid primary key, due_at timestamptz, at timestamptz);
create function note() returns trigger language plpgsql as $$
begin insert into became_ready values (new.execution_id, new.due_at, clock_timestamp()); return null; end $$;
create trigger note after update on executions for each row
    when (old.state = 'waiting' and new.state = 'queued') execute function note();
"""

Session = asyncpg.Connection


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        await session.execute(WATCH)
        yield session


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address) as stores:
        yield stores


@pytest.fixture
async def submitter(database_url: str, redis_address: str) -> AsyncIterator[SubmitJobs]:
    """Another process, which submits."""
    async with open_stores(database_url, redis_address) as stores:
        submit = SubmitJobs(
            stores.jobs, stores.announcer, stores.region, IdGenerator(), queue_items=100, queue_bytes=2**20
        )
        async with running(submit.commits.run(), stores.announcer.run()):
            yield submit


async def became_ready(session: "Session[asyncpg.Record]", count: int) -> list[tuple[datetime, datetime]]:
    """Due time and time of readiness of so many executions."""

    async def look() -> list[asyncpg.Record] | None:
        rows: list[asyncpg.Record] = await session.fetch("select due_at, at from became_ready order by due_at")
        return rows if len(rows) >= count else None

    rows = await eventually(look)
    assert rows is not None
    return [(row["due_at"], row["at"]) for row in rows]


def in_time(times: list[tuple[datetime, datetime]]) -> bool:
    return all(timedelta(0) <= at - due_at <= LATE for due_at, at in times)


async def test_jobs_with_a_time_become_ready_then_and_not_before(
    stores: Stores, submitter: SubmitJobs, redis_address: str, session: "Session[asyncpg.Record]"
) -> None:
    async with queuing(stores, redis_address):
        # The loop would sleep for an hour; each of these is earlier than what it sleeps to.
        now = from_now()
        for offset_s in (1.6, 1.2, 0.8, 0.4):
            await submitter.submit(Submission("email", b"1", run_at=now + timedelta(seconds=offset_s)))
        times = await became_ready(session, 4)
    assert in_time(times)
    waits = [(later - earlier).total_seconds() for (earlier, _), (later, _) in pairwise(times)]
    assert waits == pytest.approx([0.4] * 3)


async def test_what_becomes_ready_is_offered_to_the_workers(
    stores: Stores, submitter: SubmitJobs, redis_address: str
) -> None:
    async with queuing(stores, redis_address):
        await stores.queue.mark_complete(1)
        job = await submitter.submit(Submission("email", b"1", priority=7, run_at=from_now(seconds=0.2)))

        async def offered() -> bool:
            [entries] = await stores.queue.pop([Demand(("email",), 10)], 1)
            return [(entry.priority, entry.due_at) for entry in entries] == [(7, job.run_at)]

        await eventually(offered)


async def test_retries_start_when_their_backoff_is_over(
    stores: Stores, redis_address: str, database_url: str, session: "Session[asyncpg.Record]"
) -> None:
    hands = await register(stores)
    backoff = timedelta(seconds=0.3)
    [job] = await insert(stores, new_job(policy=RetryPolicy(3, backoff, backoff)))
    async with (
        queuing(stores, redis_address),
        open_stores(database_url, redis_address) as gateway,
        running(gateway.announcer.run()),
    ):
        held = await hands.claim_one()
        failed_at = await session.fetchval("select clock_timestamp()")
        await gateway.settler.settle([held.execution_id], lambda _: Failed("no"))
        [(due_at, at)] = await became_ready(session, 1)
        assert in_time([(due_at, at)])
        assert backoff * 0.8 <= due_at - failed_at <= backoff * 1.2 + timedelta(seconds=0.1)
        held = await hands.claim_one()
        assert held.attempt == 2
        # A worker that knows better says so.
        retry = Failed("busy", retry_after=timedelta(seconds=0.1))
        await gateway.settler.settle([held.execution_id], lambda _: retry)
        assert in_time(await became_ready(session, 2))
    assert (await stores.jobs.get(job.view.job_id)).status is JobStatus.PENDING


async def test_a_retry_without_backoff_is_ready_at_once(stores: Stores) -> None:
    hands = await register(stores)
    await insert(stores, new_job())
    for attempt in (1, 2, 3):
        held = await hands.claim_one()
        assert held.attempt == attempt
        await hands.end(Failed("no", retry_after=timedelta(0)), held.execution_id)


async def test_a_wake_up_that_comes_while_it_looks_is_not_lost(
    stores: Stores, redis_address: str, session: "Session[asyncpg.Record]"
) -> None:
    class Overtaken(PostgresRecoveryStore):
        """Something is submitted, and announced, just after the look for the next due time."""

        submits = True

        async def next_due(self) -> timedelta | None:
            found = await super().next_due()
            if self.submits:
                self.submits = False
                await insert(stores, new_job(run_at=from_now(seconds=0.2)))
                queuer.due_in(timedelta(seconds=0.2))
            return found

    async with leadership_at(redis_address) as leadership:
        queuer = DueQueuer(Overtaken(stores.database), stores.announcer, stores.region, leadership, HOUR)
        async with running(queuer.run()):
            assert in_time(await became_ready(session, 1))


async def test_without_redis_it_looks_again_after_its_longest_sleep(
    database_url: str, session: "Session[asyncpg.Record]"
) -> None:
    short = timedelta(seconds=0.2)
    async with open_stores(database_url, NEVER) as stores, queuing(stores, NEVER, longest_sleep=short):
        await insert(stores, new_job(run_at=from_now(seconds=0.3)))
        [(due_at, at)] = await became_ready(session, 1)
        assert timedelta(0) <= at - due_at <= short + LATE


async def test_a_crowd_that_is_due_at_once_becomes_ready_batch_by_batch(
    stores: Stores, redis_address: str, session: "Session[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_queuer, "BATCH", 10)
    due = from_now(seconds=0.5)
    await insert(stores, *(new_job(run_at=due) for _ in range(105)))
    async with queuing(stores, redis_address):
        assert in_time(await became_ready(session, 105))


async def test_two_schedulers_at_once_queue_and_offer_everything_once(
    stores: Stores, database_url: str, session: "Session[asyncpg.Record]"
) -> None:
    async with open_stores(database_url, NEVER) as other:
        await insert(stores, *(new_job(run_at=from_now(seconds=0.5)) for _ in range(200)))

        async def all_are_due() -> bool:
            return not await session.fetchval("select count(*) from executions where due_at > now()")

        await eventually(all_are_due)
        found = await asyncio.gather(*(each.recovery.queue_due(60, FENCE) for each in [stores, other] * 4))
    queued = [entry.execution_id for batch in found for entry in batch]
    assert len(queued) == len(set(queued)) == 200
    assert len(await became_ready(session, 200)) == 200


async def test_what_somebody_has_locked_waits_for_the_next_look(
    stores: Stores, redis_address: str, session: "Session[asyncpg.Record]", database_url: str
) -> None:
    await insert(stores, new_job(run_at=from_now(seconds=0.1)), new_job(run_at=from_now(seconds=0.1)))
    async with sql(database_url) as holder, queuing(stores, redis_address):
        async with holder.transaction():
            await holder.execute("select 1 from executions order by execution_id limit 1 for update")
            assert in_time(await became_ready(session, 1))
        assert len(await became_ready(session, 2)) == 2


async def test_a_passive_region_makes_nothing_ready(
    database_url: str, redis_address: str, stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    await insert(stores, new_job(run_at=from_now(hours=1)))
    await session.execute("update executions set due_at = now()")
    passive = RegionFence("elsewhere")
    async with open_stores(database_url, redis_address, fence=passive) as elsewhere:
        assert await elsewhere.recovery.queue_due(10, passive) == []
    assert await session.fetchval("select count(*) from became_ready") == 0
    assert len(await stores.recovery.queue_due(10, FENCE)) == 1
