"""What a client is told has been committed: its answer leaves after the commit, however long that takes."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from control_planes import ControlPlane, control_plane_on
from dispatchd.domain.ids import format_job_id
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Failed
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import Stores, insert, new_job, open_stores, register, sql

COMMIT_S = 0.5
# A deferred trigger runs inside the commit: until it has returned, nobody else sees the change.
LINGER = f"""
create function linger() returns trigger language plpgsql as
$$ begin perform pg_sleep({COMMIT_S}); return null; end $$;
create constraint trigger linger after insert or update on jobs
deferrable initially deferred for each row execute function linger();
"""
Told = Callable[[ControlPlane, str], Awaitable[object]]


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address) as stores:
        yield stores


async def submit(plane: ControlPlane, _: str) -> object:
    return await plane.submit()


async def submit_many(plane: ControlPlane, _: str) -> object:
    item = pb.SubmitJobsItem(request=pb.SubmitJobRequest(job_type="email.send", payload=b"{}"))
    return await plane.jobs.SubmitJobs(pb.SubmitJobsRequest(items=[item]))


async def cancel(plane: ControlPlane, job_id: str) -> object:
    return await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


async def redrive(plane: ControlPlane, job_id: str) -> object:
    return await plane.operators.RedriveDeadLetters(pb.RedriveDeadLettersRequest(job_ids=[job_id]))


@pytest.mark.parametrize(
    ("call", "states"),
    [
        (submit, ["active", "failed"]),
        (submit_many, ["active", "failed"]),
        (cancel, ["canceled"]),
        (redrive, ["active"]),
    ],
)
async def test_an_answer_leaves_after_its_commit(
    database_url: str, redis_address: str, stores: Stores, call: Told, states: list[str]
) -> None:
    hands = await register(stores)
    [job] = await insert(stores, new_job(policy=RetryPolicy(max_attempts=1)))
    if call is not cancel:
        await hands.end(Failed("no"), (await hands.claim_one()).execution_id)
    async with control_plane_on(database_url, redis_address) as plane, sql(database_url) as session:
        await session.execute(LINGER)
        before = await session.fetchval("select clock_timestamp()")
        await call(plane, format_job_id(job.view.job_id))
        rows = await session.fetch("select state, clock_timestamp() - $1 as took from jobs order by state", before)
    assert [row["state"] for row in rows] == states
    assert rows[0]["took"].total_seconds() > COMMIT_S, "the commit did not linger, so this says nothing"
