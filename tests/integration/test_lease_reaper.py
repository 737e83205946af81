"""The reaper: leases that ran out, attempts that took too long, and whom it must not touch."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from dispatchd.adapters.postgres.recovery import PostgresRecoveryStore
from dispatchd.application.ports import ClaimedExecution, DatabaseClock, Renewal
from dispatchd.application.scheduler import lease_reaper
from dispatchd.application.scheduler.lease_reaper import judge
from dispatchd.domain.job import JobStatus
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Succeeded
from dispatchd.domain.worker import WorkerStatus
from scheduler_loops import HOUR, reaping
from stores import (
    FENCE,
    LEASE,
    PREFIX,
    Hands,
    Stores,
    insert,
    new_job,
    open_stores,
    redis_at,
    register,
    sql,
    wait_long_for_locks,
)
from waiting import eventually, until, until_done, until_waiting

SHORT = timedelta(seconds=0.5)
Session = asyncpg.Connection
ALWAYS_TRIES_AGAIN = RetryPolicy(100, timedelta(0), timedelta(0))


@pytest.fixture(autouse=True)
def _locks_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long_for_locks(monkeypatch)


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        # The region stands for long, so that it is no reason to wait.
        await session.execute("update region set changed_at = now() - interval '1 day'")
        yield session


@pytest.fixture
async def stores(database_url: str, redis_address: str, session: "Session[asyncpg.Record]") -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address, connections=6) as stores:
        yield stores


async def holding(
    stores: Stores, worker_id: str = "worker-1", *, lease: timedelta = LEASE
) -> tuple[Hands, ClaimedExecution]:
    """A worker that holds one execution."""
    await insert(stores, new_job(policy=ALWAYS_TRIES_AGAIN))
    hands = await register(stores, worker_id, lease=lease)
    return hands, await hands.claim_one()


def renewal(hands: Hands) -> Renewal:
    return Renewal(hands.session_id, hands.registration.worker_id, WorkerStatus.READY)


async def ended(session: "Session[asyncpg.Record]", execution: ClaimedExecution) -> asyncpg.Record:
    """The row of an execution, once it has ended."""

    async def look() -> asyncpg.Record | None:
        return await session.fetchrow(
            "select * from executions where execution_id = $1 and finished_at is not null", execution.execution_id
        )

    row = await eventually(look)
    assert row is not None
    return row


# --- what it ends ---------------------------------------------------------------------------------------------------


async def test_an_execution_whose_lease_ran_out_is_ended_in_time_and_tried_again(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str
) -> None:
    async with reaping(stores, redis_address, lease=SHORT, longest_sleep=HOUR):
        hands, held = await holding(stores, lease=SHORT)
        row = await ended(session, held)
        assert (row["state"], row["end_reason"]) == ("failed", "lease_lost")
        assert "worker-1" in row["error_message"]
        assert timedelta(0) <= row["finished_at"] - held.claimed_at <= SHORT + timedelta(seconds=2)
        assert await stores.sessions.renew([renewal(hands)], LEASE, FENCE) is not None
    survivor = await register(stores, "worker-2")
    again = await survivor.claim_one()
    assert (again.job_id, again.attempt) == (held.job_id, 2)
    assert again.execution_id != held.execution_id
    session_row = await session.fetchrow("select status, ended_at from worker_sessions where worker_id = 'worker-1'")
    assert session_row is not None
    assert session_row["status"] == "offline"
    assert session_row["ended_at"] is not None


async def test_a_renewed_lease_is_left_alone_and_its_end_is_waited_for(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str
) -> None:
    async with reaping(stores, redis_address, lease=SHORT):
        hands, held = await holding(stores, lease=SHORT)
        for _ in range(5):
            outcome = await stores.sessions.renew([renewal(hands)], SHORT, FENCE)
            assert outcome.renewed == {hands.session_id}
            await asyncio.sleep(0.2)
        last = await session.fetchval("select lease_expires_at from worker_sessions")
        row = await ended(session, held)
        assert row["finished_at"] >= last


async def test_an_attempt_that_takes_too_long_is_ended_and_its_worker_is_told(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str
) -> None:
    async with redis_at(redis_address) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe(f"{PREFIX}:canceled")
        await heard.get_message(timeout=5.0)
        timeout = timedelta(seconds=0.3)
        [job] = await insert(stores, new_job(timeout=timeout))
        hands = await register(stores)
        async with reaping(stores, redis_address, lease=SHORT, longest_sleep=timedelta(seconds=0.1)):
            held = await hands.claim_one()
            assert held.deadline_at - held.claimed_at == timeout
            row = await ended(session, held)
            message = await eventually(lambda: heard.get_message(timeout=1.0))
    assert (row["state"], row["end_reason"]) == ("failed", "timed_out")
    assert row["finished_at"] >= held.deadline_at
    assert message["data"] == held.execution_id.bytes + hands.session_id.bytes + b"the attempt timed out"
    view = await stores.jobs.get(job.view.job_id)
    assert (view.status, view.attempts) == (JobStatus.PENDING, 1)
    assert "timeout" in view.last_error


async def test_what_a_crash_left_on_an_ended_or_missing_session_is_found_by_its_state(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str
) -> None:
    _, on_ended = await holding(stores, "worker-1")
    _, on_missing = await holding(stores, "worker-2")
    _, untouched = await holding(stores, "worker-3")
    await session.execute("update worker_sessions set ended_at = now() where worker_id = 'worker-1'")
    await session.execute("delete from worker_sessions where worker_id = 'worker-2'")
    async with reaping(stores, redis_address, lease=SHORT):
        for held in (on_ended, on_missing):
            assert (await ended(session, held))["end_reason"] == "lease_lost"
    assert (
        await session.fetchval("select state from executions where execution_id = $1", untouched.execution_id)
        == "claimed"
    )


async def test_more_than_a_batch_is_ended_batch_by_batch(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_reaper, "BATCH", 5)
    await insert(stores, *(new_job(policy=ALWAYS_TRIES_AGAIN) for _ in range(40)))
    for n in range(12):
        hands = await register(stores, f"worker-{n}", lease=timedelta(milliseconds=1))
        await hands.claim(3)
    async with reaping(stores, redis_address, lease=SHORT, longest_sleep=HOUR):

        async def all_ended() -> bool:
            lost = await session.fetchval("select count(*) from executions where end_reason = 'lease_lost'")
            return bool(lost == 36)

        await eventually(all_ended)


async def test_an_execution_that_cannot_be_ended_does_not_keep_the_others_from_it(
    stores: Stores, session: "Session[asyncpg.Record]", redis_address: str
) -> None:
    pairs = [await holding(stores, f"worker-{n}", lease=timedelta(milliseconds=1)) for n in range(5)]
    poison = pairs[2][1].execution_id
    await session.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; "
        f"create trigger refuse before update on executions for each row when (new.execution_id = '{poison}') "
        "execute function refuse()"
    )
    async with reaping(stores, redis_address, lease=SHORT, longest_sleep=timedelta(seconds=0.1)):
        for _, held in pairs:
            if held.execution_id != poison:
                await ended(session, held)


# --- when it waits --------------------------------------------------------------------------------------------------


async def test_it_waits_after_the_database_started(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    uptime = await session.fetchval("select now() - pg_postmaster_start_time()")
    await reaps_nothing(stores, session, lease=3 * (uptime + HOUR))


async def test_it_waits_a_lease_after_the_region_changed(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    await session.execute("update region set changed_at = now() - interval '10 minutes', epoch = 2")
    await reaps_nothing(stores, session, lease=timedelta(minutes=11))


async def test_it_waits_after_it_saw_the_database_fail(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    failed_at = time.monotonic()
    await reaps_nothing(stores, session, lease=timedelta(minutes=1), failed_at=failed_at)
    await reaps(stores, session, lease=SHORT, failed_at=failed_at - 1.0)


class Watched(PostgresRecoveryStore):
    """Counts the looks of the reaper, each of which begins with the clock."""

    looks = 0

    async def clock(self) -> DatabaseClock:
        self.looks += 1
        return await super().clock()


async def reaps_nothing(
    stores: Stores, session: "Session[asyncpg.Record]", *, lease: timedelta, failed_at: float | None = None
) -> None:
    """Checks that a lease that ran out stays as it is over many looks."""
    _, held = await holding(stores, lease=timedelta(milliseconds=1))
    watched = Watched(stores.database)
    stores.recovery = watched
    async with reaping(
        stores,
        "127.0.0.1:1",
        lease=lease,
        longest_sleep=timedelta(milliseconds=20),
        last_database_failure=lambda: failed_at,
    ):
        await until(lambda: watched.looks >= 5)
    state = await session.fetchval("select state from executions where execution_id = $1", held.execution_id)
    assert state == "claimed"
    assert await session.fetchval("select count(*) from worker_sessions where ended_at is not null") == 0
    await session.execute("delete from executions; delete from worker_sessions; delete from jobs")


async def reaps(
    stores: Stores, session: "Session[asyncpg.Record]", *, lease: timedelta, failed_at: float | None = None
) -> None:
    _, held = await holding(stores, lease=timedelta(milliseconds=1))
    async with reaping(stores, "127.0.0.1:1", lease=lease, last_database_failure=lambda: failed_at):
        await ended(session, held)


# --- races, held open by row locks ----------------------------------------------------------------------------------


async def test_a_session_that_is_being_renewed_is_passed_by_and_stays(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    hands, _ = await holding(stores, lease=timedelta(milliseconds=1))
    async with session.transaction():
        await session.execute("update worker_sessions set lease_expires_at = now() + interval '1 hour'")
        assert await until_done(asyncio.ensure_future(stores.recovery.end_expired_sessions(10, FENCE))) == []
    assert await stores.recovery.end_expired_sessions(10, FENCE) == []
    assert (await stores.sessions.renew([renewal(hands)], LEASE, FENCE)).renewed == {hands.session_id}


async def test_a_renewal_that_waits_for_the_end_of_its_session_is_told_that_it_is_lost(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    hands, _ = await holding(stores)
    async with session.transaction():
        await session.execute("update worker_sessions set ended_at = now(), lease_expires_at = now()")
        renewing = asyncio.ensure_future(stores.sessions.renew([renewal(hands)], LEASE, FENCE))
        await until_waiting(session)
    outcome = await until_done(renewing)
    assert (outcome.renewed, outcome.locked) == (frozenset(), frozenset())
    assert await session.fetchval("select lease_expires_at <= now() from worker_sessions")


async def test_a_claim_that_waits_for_the_end_of_its_session_gets_nothing(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    await insert(stores, new_job())
    hands = await register(stores)
    async with session.transaction():
        await session.execute("update worker_sessions set ended_at = now()")
        claiming = asyncio.ensure_future(hands.claim())
        await until_waiting(session)
    assert await until_done(claiming) == []
    assert await session.fetchval("select state from executions") == "queued"


async def test_a_session_that_gets_work_at_this_moment_is_ended_a_little_later(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    hands, held = await holding(stores, lease=timedelta(milliseconds=1))
    async with session.transaction():
        # A claim has the session, shared.
        await session.execute("select 1 from worker_sessions for share")
        assert await until_done(asyncio.ensure_future(stores.recovery.end_expired_sessions(10, FENCE))) == []
    [(session_id, worker_id)] = await stores.recovery.end_expired_sessions(10, FENCE)
    assert (session_id, worker_id) == (hands.session_id, "worker-1")
    assert await stores.recovery.executions_to_recover(10) == [held.execution_id]


async def test_a_result_that_comes_first_counts_and_one_that_comes_late_does_not(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    for first_is_result in (True, False):
        hands, held = await holding(stores, f"worker-{first_is_result}")
        await session.execute("update worker_sessions set ended_at = now() where session_id = $1", hands.session_id)

        async def report() -> int:
            return await hands.end(Succeeded(b"1"), held.execution_id)  # noqa: B023

        async def reap() -> int:
            return await stores.settler.settle([held.execution_id], judge)  # noqa: B023

        order = [report, reap] if first_is_result else [reap, report]
        async with session.transaction():
            await session.execute("select 1 from executions where execution_id = $1 for update", held.execution_id)
            first = asyncio.ensure_future(order[0]())
            await until_waiting(session)
            second = asyncio.ensure_future(order[1]())
            await until_waiting(session, 2)
        assert (await until_done(first), await until_done(second)) == (1, 0)
        status = (await stores.jobs.get(held.job_id)).status
        assert status is (JobStatus.SUCCEEDED if first_is_result else JobStatus.PENDING)
