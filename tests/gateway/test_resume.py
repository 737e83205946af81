"""Workers that can resume: what they list moves to the new session, what they omit ends, and no attempt is burned."""

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, UNKNOWN, WorkerStream, worker

FEATURES = (RESUME, BATCHING)


async def register(stream: WorkerStream, process_id: str, *held: str, slots: int = 10) -> pb.WorkerAck:
    return await stream.register(slots=slots, features=FEATURES, process_id=process_id, held=held)


async def test_what_is_listed_moves_to_the_new_session_and_burns_nothing(
    site: Site, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(3)
    async with (
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(gateway.address, "mailer") as old,
        worker(other_gateway.address, "mailer") as new,
    ):
        await register(old, "p")
        held = [assignment.execution_id for assignment in await old.assignments(3)]
        ack = await register(new, "p", *held)
        assert list(ack.lost_execution_ids) == []
        assert (await old.ended())[0] is grpc.StatusCode.ABORTED
        session = await facts.session("mailer")
        for execution_id in held:
            execution = await facts.execution(execution_id)
            assert (execution.session_id, execution.state, execution.attempt) == (session.session_id, "claimed", 1)
        for execution_id in held:
            assert (await new.finish(execution_id)).outcome == ACCEPTED
    assert [len(await facts.executions(job_id)) for job_id in job_ids] == [1, 1, 1]


async def test_resumed_executions_fill_slots_and_are_renewed(
    site: Site, scheduler: RunningRole, jobs: Client, facts: Facts
) -> None:
    await jobs.submit_many(3)
    async with site.gateway(LEASE_DURATION="1500ms") as gateway:
        async with worker(gateway.address, "mailer") as old:
            await register(old, "p", slots=2)
            held = [assignment.execution_id for assignment in await old.assignments(2)]
        async with worker(gateway.address, "mailer") as new:
            await register(new, "p", *held, slots=2)
            resumed_at = await facts.value("select now()")

            async def is_older_than_a_lease() -> bool:
                await new.beat()
                return bool(await facts.value("select now() - $1 > interval '2 s'", resumed_at))

            await eventually(is_older_than_a_lease, "the first lease is over", look_s=0.2)
            assert not new.has_assignment
            for execution_id in held:
                assert (await facts.execution(execution_id)).state == "claimed"
                assert (await new.finish(execution_id)).outcome == ACCEPTED


async def test_what_the_same_process_omits_is_given_back_at_its_old_place(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = [await jobs.submit() for _ in range(3)]
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await register(old, "p", slots=2)
        kept, omitted = [assignment.execution_id for assignment in await old.assignments(2)]
        await register(new, "p", kept, slots=2)
        again = await new.assignment()
        assert (again.job_id, again.attempt) == (job_ids[1], 1)
        assert again.execution_id != omitted
        assert (await facts.execution(omitted)).end_reason == "returned"
        assert (await new.finish(kept)).outcome == ACCEPTED
        assert (await new.assignment()).job_id == job_ids[2]


async def test_what_another_process_omits_is_lost(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    job_id = await jobs.submit(backoff_s=60)
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await register(old, "p")
        omitted = (await old.assignment()).execution_id
        await register(new, "q")
        assert (await facts.execution(omitted)).end_reason == "lease_lost"
        job = await jobs.job(job_id)
        assert (job.status, job.attempts) == (pb.JOB_STATUS_PENDING, 1)
        assert "another process" in job.last_error


async def test_what_is_listed_and_not_held_is_told_as_lost(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    finished, foreign = await jobs.submit_many(2)
    async with worker(gateway.address) as stranger, worker(gateway.address, "mailer") as old:
        await register(old, "p", slots=1)
        done = (await old.assignment()).execution_id
        await stranger.register()
        others = (await stranger.assignment()).execution_id
        await old.finish(done)
        unknown = "exec_00000000000070008000000000000000"
        async with worker(gateway.address, "mailer") as new:
            ack = await register(new, "p", done, others, unknown, "no id")
            assert set(ack.lost_execution_ids) == {done, others, unknown}
            assert not (await new.beat()).lost_execution_ids
            assert (await new.finish(others)).outcome == UNKNOWN
        assert (await facts.execution(others)).worker_id == stranger.worker_id
    assert (await jobs.job(finished)).status == pb.JOB_STATUS_SUCCEEDED
    assert (await jobs.job(foreign)).status == pb.JOB_STATUS_DISPATCHING


async def test_a_resuming_worker_that_was_plain_before_is_another_process(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    await jobs.submit_many(2)
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register(slots=2)
        listed, omitted = [assignment.execution_id for assignment in await old.assignments(2)]
        await register(new, "p", listed)
        assert (await new.finish(listed)).outcome == ACCEPTED
        assert (await facts.execution(omitted)).end_reason == "lease_lost"


@pytest.mark.parametrize("first", ["claim", "resume"])
async def test_a_claim_on_the_old_session_and_a_resume_lose_nothing_between_them(
    gateway: RunningRole, jobs: Client, facts: Facts, first: str
) -> None:
    """The claim comes before the resume and is returned by it, or after it and goes elsewhere."""
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await register(old, "p")
        session = await facts.session("mailer")
        registration = pb.WorkerRegistration(
            worker_id="mailer", capabilities=["email"], max_concurrency=10, features=FEATURES, process_id="p"
        )
        async with facts.holding_session(session.session_id):
            if first == "claim":
                job_id = await jobs.submit()
                await facts.blocked("claim_executions")
                await new.send(registration=registration)
                await facts.blocked("lock_open_sessions")
            else:
                await new.send(registration=registration)
                await facts.blocked("lock_open_sessions")
                job_id = await jobs.submit()
                await facts.blocked("claim_executions")
        await new.ack()
        assignment = await new.assignment()
        assert (assignment.job_id, assignment.attempt) == (job_id, 1)
        assert (await new.finish(assignment.execution_id)).outcome == ACCEPTED
        executions = await facts.executions(job_id)
        assert [e.end_reason for e in executions[:-1]] == ["returned"] * (len(executions) - 1)


@pytest.mark.parametrize(
    ("success", "waiting", "times", "ended_as"),
    [
        (True, "complete_executions", 1, pb.JOB_STATUS_SUCCEEDED),
        (False, "lock_executions", 2, pb.JOB_STATUS_FAILED),
    ],
    ids=["success", "failure"],
)
async def test_a_result_on_the_old_stream_that_waits_for_the_resume_is_taken(
    site: Site,
    gateway: RunningRole,
    jobs: Client,
    facts: Facts,
    success: bool,
    waiting: str,
    times: int,
    ended_as: pb.JobStatus,
) -> None:
    """Its execution has moved, while it waited, to a session that is younger than its statement."""
    job_id = await jobs.submit(max_attempts=1)
    async with (
        site.gateway(INSTANCE_ID="gateway-2", READY_QUEUE_PREFIX="apart") as other_gateway,
        worker(gateway.address, "mailer") as old,
        worker(other_gateway.address, "mailer") as new,
    ):
        await register(old, "p")
        execution_id = (await old.assignment()).execution_id
        session = await facts.session("mailer")
        async with facts.holding("select from executions where session_id = $1 for update", session.session_id):
            await new.send(
                registration=pb.WorkerRegistration(
                    worker_id="mailer",
                    capabilities=["email"],
                    features=FEATURES,
                    process_id="p",
                    held_execution_ids=[execution_id],
                )
            )
            await facts.blocked("lock_executions")
            await old.result(execution_id, success=success)
            await facts.blocked(waiting, times=times)
        await new.ack()
        assert (await old.ack()).outcome == ACCEPTED
    assert (await jobs.job(job_id)).status == ended_as
