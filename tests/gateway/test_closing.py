"""How a stream ends from the worker's side, and what becomes of what was under way."""

import time
from datetime import datetime
from functools import partial

import grpc

from dispatchd.v1 import dispatchd_pb2 as pb
from garbage import collected_late
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, worker


async def test_a_half_closed_stream_still_gets_the_ack_of_its_result(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding_job(job_id):
            await stream.result(execution_id)
            await stream.done_writing()
            await facts.blocked("complete_executions")
        ack = await stream.ack()
        assert (ack.execution_id, ack.outcome) == (execution_id, ACCEPTED)
        assert (await stream.ended())[0] is grpc.StatusCode.OK
    assert (await jobs.job(job_id)).status == pb.JOB_STATUS_SUCCEEDED


async def test_waiting_for_a_half_closed_streams_last_ack_costs_no_processor_time(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding_job(job_id):
            await stream.result(execution_id)
            await stream.done_writing()
            first_try = await eventually(partial(blocked_since, facts), "the result waits for the lock")
            started_s, started_cpu_s = time.monotonic(), time.process_time()

            async def is_tried_again() -> bool:
                since = await blocked_since(facts)
                return since is not None and since != first_try and time.monotonic() - started_s > 0.5

            await eventually(is_tried_again, "the result is tried again", look_s=0.05)
            used = (time.process_time() - started_cpu_s) / (time.monotonic() - started_s)
        assert used < 0.6, f"{used:.0%} of a processor while nothing happens"


async def blocked_since(facts: Facts) -> datetime | None:
    since: datetime | None = await facts.value(
        "select query_start from pg_stat_activity "
        "where wait_event_type = 'Lock' and query like '-- complete_executions%'"
    )
    return since


async def test_nothing_is_assigned_to_a_half_closed_stream(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    first = await jobs.submit()
    async with worker(gateway.address) as stream, worker(gateway.address) as other:
        await stream.register(slots=5)
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding_job(first):
            await stream.result(execution_id)
            await stream.done_writing()
            await facts.blocked("complete_executions")
            # One worker has a free slot but can't answer any more; the other takes turns.
            await other.register()
            for _ in range(3):
                job_id = await jobs.submit()
                assignment = await other.assignment()
                assert assignment.job_id == job_id
                await other.result(assignment.execution_id)
        await stream.ended()
        assert not stream.has_assignment


async def test_what_was_claimed_but_not_written_is_given_back_when_the_stream_is_dropped(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """Only the write that was under way may have reached the worker; nothing else burns an attempt or a delivery."""
    job_ids = [await jobs.submit("video.cut", payload=b"x" * 60_000) for _ in range(8)]
    async with worker(gateway.address, reads=False) as deaf:
        await deaf.send(
            registration=pb.WorkerRegistration(worker_id=deaf.worker_id, capabilities=["video"], max_concurrency=8)
        )

        async def all_are_claimed() -> bool:
            return not any(queue.depth for queue in await jobs.queues())

        await eventually(all_are_claimed, "all are claimed")
    async with worker(gateway.address) as stream:
        await stream.register("video", slots=8)
        again = [await stream.assignment() for _ in range(5)]
    assert {assignment.attempt for assignment in again} == {1}
    deliveries = [await facts.executions(job_id) for job_id in job_ids]
    returned = [executions for executions in deliveries if executions[0].end_reason == "returned"]
    assert len(returned) >= 5
    assert all(executions[1].counted_before == 0 for executions in returned), "a delivery counts only if written"


async def test_a_stream_that_the_gateway_ends_leaves_no_session_behind(site: Site, jobs: Client, facts: Facts) -> None:
    """Superseded, silent, or broken off in the middle of a write: nothing waits for the garbage collector."""
    async with site.gateway(WORKER_HEARTBEAT_TTL="1s") as gateway:
        with collected_late() as garbage:
            for name in ("one", "other"):
                await jobs.submit_many(3)
                async with worker(gateway.address, name) as first, worker(gateway.address, name) as second:
                    await first.register(slots=3)
                    await first.assignments(3)
                    await second.register(slots=3)
                    assert (await first.ended())[0] is grpc.StatusCode.ABORTED
                    assert (await second.ended())[0] is grpc.StatusCode.UNAVAILABLE, "it was silent"
            async with worker(gateway.address) as dropped:
                await dropped.register(slots=3)
                dropped.cancel()

            async def all_closed() -> bool:
                return not await facts.value("select count(*) from worker_sessions where closed_at is null")

            await eventually(all_closed, "every session is closed")
    assert "WorkerSession" not in garbage.kinds
    assert [frame for frame in garbage.frames if frame.startswith("worker_service")] == []
