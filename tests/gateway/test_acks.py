"""When acks come, in which order, and what can't hold them up."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import grpc.aio
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import BATCHING, WorkerStream, worker

AT_ONCE_S = 0.5
"""Far more than an ack takes, far less than a lock or a timeout of the database."""

COMMIT_S = 0.5
LARGE = b"x" * (2 * 1024 * 1024)


async def beats_at_once(stream: WorkerStream, times: int = 10) -> None:
    for _ in range(times):
        await stream.heartbeat()
        await stream.ack(AT_ONCE_S)


async def test_on_a_plain_stream_a_heartbeats_ack_waits_for_an_earlier_result_and_its_effect_does_not(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        before = await facts.session(stream.worker_id)
        async with facts.holding_job(job_id):
            await stream.result(execution_id)
            await facts.blocked("complete_executions")
            await stream.heartbeat()
            await stream.send(log_chunk=pb.TaskLogChunk(execution_id=execution_id, message="almost"))

            async def is_renewed() -> bool:
                return (await facts.session(stream.worker_id)).lease_expires_at > before.lease_expires_at

            await eventually(is_renewed, "the lease is renewed")
            assert not stream.has_ack
        acks = [await stream.ack() for _ in range(3)]
    assert [(ack.execution_id, ack.outcome) for ack in acks] == [
        (execution_id, pb.ACK_OUTCOME_ACCEPTED),
        ("", pb.ACK_OUTCOME_UNSPECIFIED),
        (execution_id, pb.ACK_OUTCOME_UNSPECIFIED),
    ]


async def test_on_a_plain_stream_acks_come_in_the_order_of_the_requests(gateway: RunningRole, jobs: Client) -> None:
    await jobs.submit_many(20)
    async with worker(gateway.address) as stream:
        await stream.register(slots=20)
        expected = []
        for assignment in await stream.assignments(20):
            await stream.result(assignment.execution_id)
            await stream.heartbeat()
            expected += [assignment.execution_id, ""]
        assert [(await stream.ack()).execution_id for _ in expected] == expected


@pytest.mark.parametrize("features", [(), (BATCHING,)], ids=["plain", "batched"])
@pytest.mark.parametrize(
    ("word", "end_reason"),
    [("success", "succeeded"), ("failure", "failed"), ("give_back", "returned")],
)
async def test_the_ack_of_a_result_leaves_after_its_commit(
    gateway: RunningRole,
    jobs: Client,
    facts: Facts,
    features: tuple[pb.WorkerFeature, ...],
    word: str,
    end_reason: str,
) -> None:
    await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=features)
        execution_id = (await stream.assignment()).execution_id
        # A deferred trigger runs inside the commit: until it has returned, nobody else sees the change.
        await facts.sql(
            f"create function linger() returns trigger language plpgsql as "
            f"$$ begin perform pg_sleep({COMMIT_S}); return null; end $$"
        )
        await facts.sql(
            "create constraint trigger linger after update on executions deferrable initially deferred "
            "for each row when (new.finished_at is not null) execute function linger()"
        )
        started = time.monotonic()
        if word == "give_back":
            await stream.give_back(execution_id)
        else:
            await stream.result(execution_id, success=word == "success")
        assert (await stream.ack()).outcome == pb.ACK_OUTCOME_ACCEPTED
        execution = await facts.execution(execution_id)
        assert execution.end_reason == end_reason
        assert time.monotonic() - started > COMMIT_S, "the commit did not linger, so this says nothing"


async def test_on_a_batched_stream_a_heartbeat_is_acked_at_once(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=[BATCHING])
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding_job(job_id):
            await stream.result(execution_id)
            await facts.blocked("complete_executions")
            await stream.heartbeat()
            assert (await stream.ack(AT_ONCE_S)).execution_id == ""
        assert (await stream.ack()).outcome == pb.ACK_OUTCOME_ACCEPTED


async def test_a_database_that_is_stuck_delays_no_heartbeats_ack(gateway: RunningRole, facts: Facts) -> None:
    async with worker(gateway.address) as one, worker(gateway.address) as other:
        await one.register()
        await other.register(features=[BATCHING])
        async with facts.holding("lock table worker_sessions, executions, jobs in access exclusive mode"):
            await one.heartbeat()
            await facts.blocked("renew_sessions")
            await asyncio.gather(beats_at_once(other), beats_at_once(one, 0))
            await one.ack(AT_ONCE_S)


async def test_workers_that_do_not_read_delay_no_other_workers_ack(gateway: RunningRole, jobs: Client) -> None:
    """Not even when more of them than large payloads are loaded at once have one to read."""
    for _ in range(10):
        await jobs.submit("video.cut", payload=LARGE)
    async with AsyncExitStack() as streams:
        for _ in range(10):
            deaf = await streams.enter_async_context(worker(gateway.address, reads=False))
            await deaf.send(registration=pb.WorkerRegistration(worker_id=deaf.worker_id, capabilities=["video"]))
        await eventually(partial(nothing_waits, jobs), "the large jobs are assigned to those who don't read")
        await jobs.submit("video.cut", payload=LARGE)
        await jobs.submit("email.send")
        stream = await streams.enter_async_context(worker(gateway.address))
        await stream.register("video", "email", slots=2)
        assert (await stream.assignment()).job_type == "email.send"
        await eventually(partial(nothing_waits, jobs), "the last large job is assigned")
        await beats_at_once(stream)


async def nothing_waits(jobs: Client) -> bool:
    return not any(queue.depth for queue in await jobs.queues())


async def test_a_worker_that_does_not_read_is_not_read_either(site: Site, facts: Facts) -> None:
    """Its acks don't gather in memory: the gateway stops to read, hears nothing more, and ends the session."""
    async with (
        site.gateway(WORKER_HEARTBEAT_TTL="1s") as gateway,
        worker(gateway.address, reads=False) as deaf,
        worker(gateway.address) as other,
    ):
        await other.register()
        await deaf.send(registration=pb.WorkerRegistration(worker_id=deaf.worker_id, capabilities=["email"]))
        flooding = asyncio.create_task(flood(deaf))

        async def is_closed() -> bool:
            await beats_at_once(other)
            return await has_closed(facts, deaf.worker_id)

        await eventually(is_closed, "the session of the worker that does not read is closed")
        deaf.start_reading()
        await flooding


async def test_a_worker_that_does_not_read_what_it_is_sent_is_given_up(site: Site, jobs: Client, facts: Facts) -> None:
    job_id = await jobs.submit("video.cut", payload=LARGE)
    async with (
        site.gateway(WORKER_HEARTBEAT_TTL="1s") as gateway,
        worker(gateway.address, reads=False) as deaf,
    ):
        await deaf.send(registration=pb.WorkerRegistration(worker_id=deaf.worker_id, capabilities=["video"]))

        async def is_closed() -> bool:
            await deaf.heartbeat()
            return await has_closed(facts, deaf.worker_id)

        await eventually(is_closed, "the session of the worker that does not read is closed", look_s=0.1)
        deaf.start_reading()
        code, details = await deaf.ended()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "nothing was read" in details
    [execution] = await facts.executions(job_id)
    assert execution.state == "claimed", "the write had begun, so the worker may have it"


async def has_closed(facts: Facts, worker_id: str) -> bool:
    return bool(await facts.value("select closed_at from worker_sessions where worker_id = $1", worker_id))


async def flood(stream: WorkerStream) -> None:
    """Sends heartbeats until the stream has ended."""
    try:
        while not stream.has_ended:
            await stream.heartbeat()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
