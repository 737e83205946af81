"""Giving back burns no attempt and keeps the place in the queue; a job that is only ever given back ends."""

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts
from gateway.roles import RunningRole
from gateway.worker_stream import ACCEPTED, BATCHING, STALE, UNKNOWN, worker


async def test_a_give_back_burns_no_attempt_and_keeps_its_place(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = [await jobs.submit() for _ in range(3)]
    async with worker(gateway.address) as stream:
        await stream.register()
        first = await stream.assignment()
        # Its slot is free at once, before the give-back is committed: it must not be filled with the next job.
        await stream.beat(pb.WORKER_STATUS_DRAINING)
        await stream.send(give_back=pb.GiveBack(execution_ids=[first.execution_id]))
        ack = await stream.ack()
        assert (ack.execution_id, ack.outcome) == (first.execution_id, ACCEPTED)
        await stream.beat()
        again = await stream.assignment()
        assert (again.job_id, again.attempt) == (job_ids[0], 1)
        assert again.execution_id != first.execution_id
        returned, live = await facts.executions(job_ids[0])
        assert (returned.state, returned.end_reason, returned.delivery) == ("failed", "returned", 1)
        assert (live.attempt, live.delivery, live.counted_before, live.due_at) == (1, 2, 1, returned.due_at)
        assert (await stream.finish(first.execution_id)).outcome == STALE
        assert (await stream.finish(again.execution_id)).outcome == ACCEPTED
        assert (await stream.assignment()).job_id == job_ids[1]
    job = await jobs.job(job_ids[0])
    assert (job.attempts, job.last_error) == (1, "")
    [shown, _] = await jobs.executions(job_ids[0])
    assert shown.end_reason == pb.EXECUTION_END_REASON_RETURNED


async def test_several_are_given_back_at_once_and_each_is_acked(gateway: RunningRole, jobs: Client) -> None:
    await jobs.submit_many(3)
    async with worker(gateway.address) as stream:
        await stream.register(slots=3, features=[BATCHING])
        held = [assignment.execution_id for assignment in await stream.assignments(3)]
        await stream.finish(held[0])
        await stream.beat(pb.WORKER_STATUS_DRAINING)
        await stream.give_back(*held, "no id")
        acks = {ack.execution_id: ack.outcome for ack in [await stream.ack() for _ in range(4)]}
    assert acks == {held[0]: STALE, held[1]: ACCEPTED, held[2]: ACCEPTED, "no id": UNKNOWN}


async def test_a_job_that_is_only_ever_given_back_becomes_a_dead_letter(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_id = await jobs.submit(max_attempts=2)
    async with worker(gateway.address) as stream:
        await stream.register()
        for _ in range(22):
            assignment = await stream.assignment()
            assert assignment.attempt == 1
            await stream.give_back(assignment.execution_id)
            assert (await stream.ack()).outcome == ACCEPTED
        following = await jobs.submit()
        assert (await stream.assignment()).job_id == following
    job = await jobs.job(job_id)
    assert job.status == pb.JOB_STATUS_FAILED
    assert "22 deliveries" in job.last_error
    executions = await facts.executions(job_id)
    assert [execution.delivery for execution in executions] == list(range(1, 23))
    assert {execution.end_reason for execution in executions} == {"returned"}
