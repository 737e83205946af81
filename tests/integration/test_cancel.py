"""Cancel: ends what waits or runs at once, leaves what has ended as it is, and overlooks nothing in a race."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import redis.asyncio

from control_planes import ControlPlane, control_plane_on
from dispatchd.adapters.postgres.jobs import PostgresJobStore
from dispatchd.application.cancel_job import CancelJob
from dispatchd.application.ports import CanceledExecution, Demand, Offer, Renewal
from dispatchd.domain.errors import JobNotFound
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.job import JobStatus
from dispatchd.domain.region import RegionFence
from dispatchd.domain.settlement import Failed, LeaseLost, Succeeded
from dispatchd.domain.worker import WorkerStatus
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import (
    FENCE,
    LEASE,
    LONGEST,
    PREFIX,
    Hands,
    Stores,
    ids,
    insert,
    new_job,
    open_stores,
    register,
    running,
    sql,
    wait_long_for_locks,
)
from waiting import eventually, until, until_done, until_waiting

Session = asyncpg.Connection


@pytest.fixture(autouse=True)
def _locks_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long_for_locks(monkeypatch)


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address, connections=6) as stores:
        yield stores


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


async def submit_one(stores: Stores) -> JobId:
    [job] = await insert(stores, new_job())
    return job.view.job_id


async def executions(session: "Session[asyncpg.Record]") -> list[tuple[str, str | None]]:
    rows = await session.fetch("select state, end_reason from executions order by delivery")
    return [(row["state"], row["end_reason"]) for row in rows]


async def lock(session: "Session[asyncpg.Record]", table: str, key: str, value: UUID) -> None:
    await session.execute(f"select 1 from {table} where {key} = $1 for update", value)


# --- what it does ---------------------------------------------------------------------------------------------------


async def test_a_waiting_job_is_canceled_and_leaves_the_ready_queue(
    database_url: str, redis_address: str, stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    async with (
        control_plane_on(database_url, redis_address) as plane,
        redis.asyncio.Redis.from_url(f"redis://{redis_address}") as client,
    ):
        job_id = (await plane.submit()).job_id
        queue = f"{PREFIX}:queue:email"
        await eventually(lambda: client.zcard(queue))
        job = (await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))).job
        assert (job.status, job.payload) == (pb.JOB_STATUS_CANCELED, b"{}")
        assert job == await plane.get(job_id)

        async def left() -> bool:
            return bool(await client.zcard(queue) == 0)

        await eventually(left)
    assert await executions(session) == [("failed", "canceled")]


@pytest.mark.parametrize("has_started", [False, True])
async def test_a_job_with_a_worker_is_canceled_and_the_worker_is_told(
    database_url: str, redis_address: str, stores: Stores, has_started: bool
) -> None:
    hands = await register(stores)
    async with (
        control_plane_on(database_url, redis_address) as plane,
        redis.asyncio.Redis.from_url(f"redis://{redis_address}") as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
    ):
        await heard.subscribe(f"{PREFIX}:canceled")
        await heard.get_message(timeout=5.0)
        job_id = (await plane.submit()).job_id
        held = await hands.claim_one()
        if has_started:
            started = {held.execution_id: timedelta(0)}
            renewal = Renewal(hands.session_id, "worker-1", WorkerStatus.READY, started)
            await stores.sessions.renew([renewal], LEASE, FENCE)
        assert (await cancel(plane, job_id)).status == pb.JOB_STATUS_CANCELED
        message = await eventually(lambda: heard.get_message(timeout=1.0))
        assert message["data"] == held.execution_id.bytes + hands.session_id.bytes + b"the job was canceled"
        # A late result changes nothing.
        assert await hands.end(Succeeded(b"late"), held.execution_id) == 0
        job = await plane.get(job_id)
        assert (job.status, job.result) == (pb.JOB_STATUS_CANCELED, b"")


async def cancel(plane: ControlPlane, job_id: str) -> pb.Job:
    return (await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), timeout=15.0)).job


async def test_a_job_that_has_ended_is_answered_unchanged(
    database_url: str, redis_address: str, stores: Stores
) -> None:
    hands = await register(stores)
    async with control_plane_on(database_url, redis_address) as plane:
        for ending, status in (
            (Succeeded(b"42"), pb.JOB_STATUS_SUCCEEDED),
            (Failed("no", do_not_retry=True), pb.JOB_STATUS_FAILED),
        ):
            job_id = (await plane.submit()).job_id
            await hands.end(ending, (await hands.claim_one()).execution_id)
            ended = await plane.get(job_id)
            assert ended.status == status
            assert await cancel(plane, job_id) == ended
        job_id = (await plane.submit()).job_id
        canceled = await cancel(plane, job_id)
        assert await cancel(plane, job_id) == canceled == await plane.get(job_id)


async def test_a_job_that_waits_for_its_retry_is_canceled(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    job_id = await submit_one(stores)
    hands = await register(stores)
    await hands.end(Failed("no"), (await hands.claim_one()).execution_id)
    ended = await stores.jobs.cancel(job_id, FENCE)
    assert ended is not None
    assert (ended.session_id, ended.was_ready) == (None, False)
    assert await executions(session) == [("failed", "failed"), ("failed", "canceled")]


async def test_a_job_that_is_not_there_is_not_found(stores: Stores) -> None:
    with pytest.raises(JobNotFound):
        await stores.jobs.cancel(ids.job_id(), FENCE)


# --- races, held open by row locks ----------------------------------------------------------------------------------


async def held_execution(stores: Stores) -> tuple[JobId, Hands, ExecutionId]:
    job_id = await submit_one(stores)
    hands = await register(stores)
    return job_id, hands, (await hands.claim_one()).execution_id


async def test_a_cancel_sees_the_retry_that_a_reaper_inserts_at_the_same_moment(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    job_id, hands, execution_id = await held_execution(stores)
    async with session.transaction():
        # The reaper has the job and waits for the execution; the cancel waits for the job.
        await lock(session, "executions", "execution_id", execution_id)
        reaping = asyncio.ensure_future(hands.end(LeaseLost("gone"), execution_id))
        await until_waiting(session)
        canceling = asyncio.ensure_future(stores.jobs.cancel(job_id, FENCE))
        await until_waiting(session, 2)
    assert await until_done(reaping) == 1
    ended = await until_done(canceling)
    assert ended is not None
    assert ended.execution_id != execution_id
    assert await executions(session) == [("failed", "lease_lost"), ("failed", "canceled")]
    assert (await stores.jobs.get(job_id)).status is JobStatus.CANCELED


async def test_a_reaper_that_comes_after_a_cancel_inserts_no_retry(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    job_id, hands, execution_id = await held_execution(stores)
    async with session.transaction():
        await lock(session, "executions", "execution_id", execution_id)
        canceling = asyncio.ensure_future(stores.jobs.cancel(job_id, FENCE))
        await until_waiting(session)
        reaping = asyncio.ensure_future(hands.end(LeaseLost("gone"), execution_id))
        await until_waiting(session, 2)
    ended = await until_done(canceling)
    assert ended is not None
    assert ended.execution_id == execution_id
    assert await until_done(reaping) == 0
    assert await executions(session) == [("failed", "canceled")]


async def test_a_cancel_that_meets_a_result_leaves_the_job_succeeded(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    job_id, hands, execution_id = await held_execution(stores)
    async with session.transaction():
        await lock(session, "executions", "execution_id", execution_id)
        result = asyncio.ensure_future(hands.end(Succeeded(b"42"), execution_id))
        await until_waiting(session)
        canceling = asyncio.ensure_future(stores.jobs.cancel(job_id, FENCE))
        await until_waiting(session, 2)
    assert await until_done(result) == 1
    assert await until_done(canceling) is None
    view = await stores.jobs.get(job_id)
    assert (view.status, view.result) == (JobStatus.SUCCEEDED, b"42")


async def test_a_cancel_that_meets_a_claim_tells_the_worker(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    job_id = await submit_one(stores)
    hands = await register(stores)
    async with session.transaction():
        # The claim has the execution and waits for the session; the cancel has the job and waits for the execution.
        await lock(session, "worker_sessions", "session_id", hands.session_id)
        claiming = asyncio.ensure_future(hands.claim())
        await until_waiting(session)
        canceling = asyncio.ensure_future(stores.jobs.cancel(job_id, FENCE))
        await until_waiting(session, 2)
    [claimed] = await until_done(claiming)
    ended = await until_done(canceling)
    assert ended is not None
    assert (ended.execution_id, ended.session_id) == (claimed.execution_id, hands.session_id)
    assert await executions(session) == [("failed", "canceled")]


async def test_a_claim_passes_by_what_is_being_canceled(stores: Stores, session: "Session[asyncpg.Record]") -> None:
    job_id, other = await submit_one(stores), await submit_one(stores)
    hands = await register(stores)
    async with session.transaction():
        await session.execute("select 1 from executions where job_id = $1 for update", job_id)
        [claimed] = await until_done(asyncio.ensure_future(hands.claim(2)))
    assert claimed.job_id == other


async def test_a_cancel_that_meets_a_redrive_cancels_the_new_execution(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    job_id, hands, execution_id = await held_execution(stores)
    await hands.end(Failed("no", do_not_retry=True), execution_id)
    new_id = ids.execution_id()
    async with session.transaction():
        # Both wait for the job, and are served in the order in which they came.
        await lock(session, "jobs", "job_id", job_id)
        redriving = asyncio.ensure_future(stores.jobs.redrive([(job_id, new_id)], FENCE))
        await until_waiting(session)
        canceling = asyncio.ensure_future(stores.jobs.cancel(job_id, FENCE))
        await until_waiting(session, 2)
    outcome = (await until_done(redriving))[job_id]
    ended = await until_done(canceling)
    assert outcome.entry is not None
    assert ended is not None
    assert ended.execution_id == new_id
    assert await executions(session) == [("dead_lettered", "failed"), ("failed", "canceled")]
    assert (await stores.jobs.get(job_id)).status is JobStatus.CANCELED


async def test_a_canceled_execution_that_is_still_in_the_ready_queue_is_claimed_by_nobody(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    job_id = await submit_one(stores)
    hands = await register(stores)
    await stores.queue.mark_complete(1)
    await stores.queue.offer(await stores.recovery.ready_page("email", None, 10))
    use_case = CancelJob(stores.jobs, stores.announcer, stores.region)
    [[entry]] = await stores.queue.pop([Demand(("email",), 1)], 1)
    async with running(stores.announcer.run()):
        assert (await use_case.cancel(job_id)).status is JobStatus.CANCELED
    assert await stores.claims.claim([Offer(entry, hands.session_id)], LONGEST, 1_000, FENCE) == []
    assert await executions(session) == [("failed", "canceled")]


async def test_a_cancel_that_gives_up_waiting_for_a_lock_is_tried_again(
    session: "Session[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setattr("dispatchd.adapters.postgres.database.LOCK_TIMEOUT", timedelta(seconds=0.2))
    async with open_stores(database_url) as stores:
        job_id = await submit_one(stores)
        use_case = CancelJob(Counting(stores.database), stores.announcer, stores.region)
        async with session.transaction():
            await lock(session, "jobs", "job_id", job_id)
            canceling = asyncio.ensure_future(use_case.cancel(job_id))
            await until(lambda: Counting.calls >= 2)
        assert (await until_done(canceling)).status is JobStatus.CANCELED


class Counting(PostgresJobStore):
    """Counts the tries."""

    calls = 0

    async def cancel(self, job_id: JobId, fence: RegionFence) -> CanceledExecution | None:
        Counting.calls += 1
        return await super().cancel(job_id, fence)
