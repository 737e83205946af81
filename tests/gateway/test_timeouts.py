"""An attempt past its deadline: ended by the server as a retryable failure, and its worker told."""

import asyncio
from datetime import timedelta

import pytest

from dispatchd.entrypoints.child_process import free_port
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts
from gateway.roles import RunningRole, Site
from gateway.worker_stream import RESUME, STALE, worker


@pytest.fixture
def site(request: pytest.FixtureRequest, database_url: str, redis_address: str) -> Site:
    """With Redis, unless a test asks for "no redis"."""
    has_redis = getattr(request, "param", "redis") == "redis"
    return Site(database_url, redis_address if has_redis else f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("site", ["redis", "no redis"], indirect=True)
async def test_an_attempt_past_its_deadline_is_tried_again_and_its_worker_told(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit(timeout=timedelta(seconds=1), backoff_s=0)
    async with worker(gateway.address) as stream, worker(gateway.address) as other:
        await stream.register(features=[RESUME], process_id="p")
        first = await stream.assignment()
        assert timedelta(0) < first.time_left.ToTimedelta() <= timedelta(seconds=1)
        assert first.deadline.ToDatetime() - first.lease_expires_at.ToDatetime() < timedelta(0)
        await other.register()
        signal = asyncio.create_task(stream.cancel_signal())
        while not signal.done():
            await stream.beat()
            await asyncio.wait({signal}, timeout=0.2)
        assert list((await signal).execution_ids) == [first.execution_id]
        second = await other.assignment()
        assert (second.job_id, second.attempt) == (job_id, 2)
        await other.finish(second.execution_id)
        ended = await facts.ended(first.execution_id, "timed_out")
        assert ended.finished_at is not None
        assert ended.claimed_at is not None
        late = ended.finished_at - ended.claimed_at - timedelta(seconds=1)
        assert timedelta(0) <= late < timedelta(seconds=2)
        assert (await stream.finish(first.execution_id)).outcome == STALE
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED
    [shown, _] = await jobs.executions(job_id)
    assert shown.end_reason == pb.EXECUTION_END_REASON_TIMED_OUT


async def test_the_last_attempt_that_times_out_is_a_dead_letter(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit(timeout=timedelta(milliseconds=200), max_attempts=1)
    async with worker(gateway.address) as stream:
        await stream.register()
        execution = await facts.ended((await stream.assignment()).execution_id, "timed_out")
        assert execution.state == "dead_lettered"
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_FAILED


async def test_without_a_timeout_max_execution_time_is_the_bound(
    site: Site, scheduler: RunningRole, jobs: Client, facts: Facts
) -> None:
    async with site.gateway(MAX_EXECUTION_TIME="1s") as gateway, worker(gateway.address) as stream:
        await jobs.submit()
        await stream.register()
        assignment = await stream.assignment()
        assert assignment.time_left.ToTimedelta() <= timedelta(seconds=1)
        await facts.ended(assignment.execution_id, "timed_out")


async def test_the_bound_is_a_day_unless_set(gateway: RunningRole, jobs: Client) -> None:
    await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        left = (await stream.assignment()).time_left.ToTimedelta()
    assert timedelta(hours=24) - timedelta(minutes=1) < left <= timedelta(hours=24)
