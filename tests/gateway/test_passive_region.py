"""A gateway whose region stops being the primary, or is about to: its workers move on, and nothing is burned."""

import asyncio

import grpc

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, WorkerStream, worker

FEATURES = (RESUME, BATCHING)


async def flip(facts: Facts) -> None:
    """What `dispatchd region set` writes."""
    await facts.sql("update region set primary_region = 'elsewhere', epoch = epoch + 1, changed_at = now()")


async def set_mode(facts: Facts, mode: str) -> None:
    await facts.sql("update region set mode = $1, changed_at = now()", mode)


async def beat_until_ended(stream: WorkerStream) -> None:
    try:
        while not stream.has_ended:
            await stream.heartbeat()
            await asyncio.sleep(0.005)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return


async def test_a_flip_sends_workers_to_the_primary(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    await jobs.submit_many(2)
    async with worker(gateway.address) as resuming, worker(gateway.address) as plain, worker(gateway.address) as late:
        await resuming.register(features=FEATURES, process_id="p")
        await plain.register()
        await resuming.assignment()
        held = (await plain.assignment()).execution_id
        # Heartbeats come all the while: a renewal that the row refuses must not look like a lost lease.
        beating = asyncio.create_task(beat_until_ended(resuming))
        await flip(facts)
        assert (await resuming.drain_signal()).kind == pb.DRAIN_KIND_RECONNECT
        for stream in (resuming, plain):
            code, details = await stream.ended()
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert "'elsewhere'" in details
        await beating
        assert not any(message.HasField("drain_signal") for message in plain.order)
        await late.send(registration=pb.WorkerRegistration(worker_id="late", capabilities=["email"]))
        code, details = await late.ended()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "'elsewhere'" in details
    assert (await facts.execution(held)).state == "claimed"


async def test_a_worker_resumes_in_the_new_region_and_nothing_is_burned(
    site: Site, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(2)
    async with worker(gateway.address, "mailer") as old:
        await old.register(slots=2, features=FEATURES, process_id="p")
        held = [assignment.execution_id for assignment in await old.assignments(2)]
        await flip(facts)
        await old.drain_signal()
        async with (
            site.gateway(REGION="elsewhere", PRIMARY_REGION="elsewhere", INSTANCE_ID="over-there") as there,
            worker(there.address, "mailer") as new,
        ):
            ack = await new.register(slots=2, features=FEATURES, process_id="p", held=held)
            assert not ack.lost_execution_ids
            for execution_id in held:
                assert (await new.finish(execution_id)).outcome == ACCEPTED
    assert [len(await facts.executions(job_id)) for job_id in job_ids] == [1, 1]


async def test_a_result_that_was_not_saved_before_the_flip_is_dropped_unacked(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """The worker sends it again in the new region."""
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=FEATURES, process_id="p")
        execution_id = (await stream.assignment()).execution_id
        async with facts.holding_job(job_id):
            await stream.result(execution_id)
            await facts.blocked("complete_executions")
            await flip(facts)
            # The try that began before the flip might still go in, as ADR 0008 allows. Every later one sees the new row
            # and leaves it to the long way.
            await facts.blocked("lock_executions")
            assert (await stream.ended())[0] is grpc.StatusCode.FAILED_PRECONDITION
        assert not stream.has_ack

    async def is_settled() -> bool:
        return not await facts.value(
            "select count(*) from pg_stat_activity where state <> 'idle' "
            "and query similar to '-- (complete_executions|lock_executions|apply_settlements)%'"
        )

    await eventually(is_settled, "the try that was under way is over")
    assert (await facts.execution(execution_id)).state == "claimed"


async def test_while_draining_nothing_is_claimed_and_all_else_goes_on(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    first, second, third = await jobs.submit_many(3)
    async with worker(gateway.address) as stream, worker(gateway.address) as newcomer:
        await stream.register(slots=2)
        held = [assignment.execution_id for assignment in await stream.assignments(2)]
        await set_mode(facts, "draining")
        before = await facts.session(stream.worker_id)
        assert (await stream.finish(held[0])).outcome == ACCEPTED
        await newcomer.register(slots=10)

        async def is_renewed() -> bool:
            await stream.beat()
            return (await facts.session(stream.worker_id)).lease_expires_at > before.lease_expires_at

        await eventually(is_renewed, "leases are renewed")
        assert (await stream.finish(held[1], success=False, error_message="no")).outcome == ACCEPTED
        assert not stream.has_assignment
        assert not newcomer.has_assignment
        assert [e.state for e in await facts.executions(third)] == ["queued"]
        await stream.beat(pb.WORKER_STATUS_DRAINING)
        await set_mode(facts, "active")
        assert (await newcomer.assignment()).job_id == third
    assert (await jobs.job(first)).status == pb.JOB_STATUS_SUCCEEDED
    assert (await jobs.job(second)).status == pb.JOB_STATUS_PENDING


async def test_a_process_of_another_epoch_and_one_that_may_not_change_anything_take_no_stream(site: Site) -> None:
    for environ, words in (({"REGION_EPOCH": "2"}, "epoch"), ({"ALLOW_MUTATIONS": "false"}, "ALLOW_MUTATIONS")):
        async with site.gateway(**environ) as gateway, worker(gateway.address) as stream:
            await stream.send(registration=pb.WorkerRegistration(worker_id="w", capabilities=["email"]))
            code, details = await stream.ended()
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert words in details
