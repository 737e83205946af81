"""How a worker learns that an execution is no longer wanted, over Redis and without it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from dispatchd.entrypoints.child_process import free_port
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import BATCHING, RESUME, STALE, WorkerStream, worker


@pytest.fixture(params=["redis", "no redis"])
def site(request: pytest.FixtureRequest, database_url: str, redis_address: str) -> Site:
    """Signals come over Redis; without it the next heartbeat brings them."""
    return Site(database_url, redis_address if request.param == "redis" else f"127.0.0.1:{free_port()}")


T = TypeVar("T")


async def while_beating(stream: WorkerStream, something: Awaitable[T]) -> T:
    """Waits for something that a heartbeat may bring."""
    waiting = asyncio.ensure_future(something)
    while not waiting.done():
        await stream.beat()
        await asyncio.wait({waiting}, timeout=0.1)
    return waiting.result()


async def test_a_canceled_execution_keeps_its_slot_until_the_worker_answers(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=[RESUME], process_id="p")
        execution_id = (await stream.assignment()).execution_id
        assert (await jobs.cancel(job_id)).status == pb.JOB_STATUS_CANCELED
        following = await jobs.submit()
        signal = await while_beating(stream, stream.cancel_signal())
        assert list(signal.execution_ids) == [execution_id]
        assert signal.reason
        assert execution_id in (await stream.beat()).lost_execution_ids
        assert not stream.has_assignment
        assert (await stream.finish(execution_id, success=False)).outcome == STALE
        assert (await stream.assignment()).job_id == following
        assert not (await stream.beat()).lost_execution_ids
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_CANCELED


async def test_a_plain_worker_learns_of_a_cancel_by_its_results_ack(gateway: RunningRole, jobs: Client) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        await jobs.cancel(job_id)
        following = await jobs.submit()
        await stream.beat()
        assert not stream.has_assignment
        assert (await stream.finish(execution_id)).outcome == STALE
        assert (await stream.assignment()).job_id == following
        assert [m.WhichOneof("payload") for m in stream.order if m.WhichOneof("payload") == "cancel"] == []


async def test_what_is_canceled_before_it_was_written_is_never_sent_and_frees_its_slot(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """A worker that does not read for a while: what was claimed for it and canceled meanwhile is taken back."""
    size = 100_000
    job_ids = [await jobs.submit(payload=b"x" * size) for _ in range(3)]
    async with worker(gateway.address, reads=False) as stream:
        await stream.send(
            registration=pb.WorkerRegistration(
                worker_id=stream.worker_id,
                capabilities=["email"],
                max_concurrency=3,
                features=[RESUME, BATCHING],
                process_id="p",
            )
        )

        async def all_are_claimed() -> bool:
            return not any(queue.depth for queue in await jobs.queues())

        await eventually(all_are_claimed, "all are claimed")
        await jobs.cancel(job_ids[2])
        following = await jobs.submit(payload=b"x")

        async def is_claimed() -> bool:
            await stream.heartbeat()
            return (await facts.executions(following))[0].state == "claimed"

        await eventually(is_claimed, "its slot is free", look_s=0.1)
        stream.start_reading()
        sent = {(await stream.assignment()).job_id for _ in range(3)}
        assert sent == {job_ids[0], job_ids[1], following}
