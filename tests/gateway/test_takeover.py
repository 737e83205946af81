"""A second stream of the same worker id takes over: on one gateway, across two, with and without Redis."""

import grpc
import pytest

from dispatchd.entrypoints.child_process import free_port
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, RESUME, WorkerStream, worker


async def test_the_displaced_stream_ends_and_the_new_one_works(gateway: RunningRole, jobs: Client) -> None:
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register()
        await new.register()
        code, details = await old.ended()
        assert code is grpc.StatusCode.ABORTED
        assert details.startswith("superseded")
        job_id = await jobs.submit()
        assert (await new.assignment()).job_id == job_id
        assert not old.has_assignment


async def test_across_gateways_the_displaced_stream_ends_at_once(site: Site, gateway: RunningRole) -> None:
    async with (
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(gateway.address, "mailer") as old,
        worker(other_gateway.address, "mailer") as new,
    ):
        await old.register()
        await new.register()
        assert (await old.ended(patience_s=2.0))[0] is grpc.StatusCode.ABORTED


async def test_without_redis_the_displaced_stream_ends_at_its_next_heartbeat(database_url: str, facts: Facts) -> None:
    site = Site(database_url, f"127.0.0.1:{free_port()}")
    async with (
        site.gateway() as gateway,
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(gateway.address, "mailer") as old,
        worker(other_gateway.address, "mailer") as new,
    ):
        await old.register()
        displaced = await facts.session("mailer")
        await new.register()
        await old.beat()
        assert (await old.ended())[0] is grpc.StatusCode.ABORTED
        [row] = await facts.sql("select * from worker_sessions where session_id = $1", displaced.session_id)
        assert row["lease_expires_at"] == displaced.lease_expires_at, "a displaced session is renewed no more"
        await new.beat()


async def test_what_a_plain_worker_held_stays_fills_its_slots_and_takes_its_results(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(4)
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register(slots=3)
        held = [assignment.execution_id for assignment in await old.assignments(3)]
        await new.register(slots=3)
        await old.ended()
        await new.beat()
        assert not new.has_assignment, "its slots are full"
        await new.send(log_chunk=pb.TaskLogChunk(execution_id=held[0], message="still at it"))
        await new.ack()
        assert (await new.finish(held[0])).outcome == ACCEPTED
        assert (await new.assignment(1.0)).job_id == job_ids[3], "the answer has freed a slot"
        assert (await new.finish(held[1], success=False, error_message="no")).outcome == ACCEPTED
        [execution] = await facts.executions(job_ids[0])
        assert (execution.state, execution.end_reason) == ("succeeded", "succeeded")
        following = await jobs.submit()
        assert (await new.assignment(1.0)).job_id == following


async def test_what_a_plain_worker_held_is_lost_with_its_old_session(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """The lease of the old session is renewed no more, however lively the new one is."""
    job_id = await jobs.submit(backoff_s=0)
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register()
        execution_id = (await old.assignment()).execution_id
        await new.register(slots=2)

        async def is_lost() -> bool:
            await new.beat()
            return (await facts.execution(execution_id)).end_reason == "lease_lost"

        await eventually(is_lost, "the lease is lost", look_s=0.3)
        again = await new.assignment()
        assert (again.job_id, again.attempt) == (job_id, 2)


async def test_a_plain_worker_that_comes_back_with_one_slot_works_again_when_the_old_lease_is_over(
    scheduler: RunningRole, gateway: RunningRole, jobs: Client
) -> None:
    await jobs.submit(backoff_s=0)
    async with worker(gateway.address, "mailer") as old:
        await old.register()
        await old.assignment()
    async with worker(gateway.address, "mailer") as new:
        await new.register()

        async def is_assigned() -> bool:
            await new.beat()
            return new.has_assignment

        await eventually(is_assigned, "the slot is free again", look_s=0.3)
        assert (await new.assignment()).attempt == 2


async def test_more_than_five_takeovers_a_minute_by_other_processes_are_refused(
    gateway: RunningRole, facts: Facts
) -> None:
    streams = [WorkerStream(gateway.address, "mailer") for _ in range(7)]
    try:
        for number, stream in enumerate(streams[:6]):
            await stream.register(features=[RESUME], process_id=f"process-{number}")
        await streams[6].send(
            registration=pb.WorkerRegistration(worker_id="mailer", capabilities=["email"], process_id="process-6")
        )
        code, details = await streams[6].ended()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "mailer" in details
        assert "grpc-status-details-bin" in await streams[6].trailers(), "it says when to try again"
        assert not streams[5].has_ended
        await streams[5].beat()
        assert await facts.value("select count(*) from worker_sessions") == 6, "a refused one leaves nothing"
    finally:
        for stream in streams:
            await stream.close()


async def test_a_process_that_reconnects_is_no_takeover(gateway: RunningRole) -> None:
    for _ in range(8):
        async with worker(gateway.address, "mailer") as stream:
            await stream.register(features=[RESUME], process_id="the same")


async def test_a_plain_worker_whose_stream_is_closed_is_no_takeover(gateway: RunningRole, facts: Facts) -> None:
    for _ in range(8):
        async with worker(gateway.address, "mailer") as stream:
            await stream.register()

        async def is_closed() -> bool:
            return (await facts.session("mailer")).closed_at is not None

        await eventually(is_closed, "the stream is known to be closed")


async def test_a_stream_that_is_dropped_while_its_registration_commits_leaves_no_open_session(
    gateway: RunningRole, facts: Facts
) -> None:
    """Otherwise an impatient worker would be refused for taking over from itself."""
    await facts.sql(
        "create function wait() returns trigger language plpgsql as "
        "$$ begin perform pg_advisory_xact_lock(42); return null; end $$"
    )
    await facts.sql(
        "create constraint trigger wait after insert on worker_sessions "
        "deferrable initially deferred for each row execute function wait()"
    )

    async def is_committing() -> bool:
        return bool(await facts.value("select 1 from pg_locks where locktype = 'advisory' and not granted"))

    async def drop_a_stream() -> bool:
        async with (
            facts.holding("select pg_advisory_xact_lock(42)"),
            worker(gateway.address, "mailer") as impatient,
        ):
            await impatient.send(registration=pb.WorkerRegistration(worker_id="mailer", capabilities=["email"]))
            await eventually(is_committing, "the registration commits")
        return bool(await facts.value("select count(*) from worker_sessions"))

    await eventually(drop_a_stream, "a registration was committed although its stream was dropped")

    async def all_are_closed() -> bool:
        count: int = await facts.value("select count(*) from worker_sessions where closed_at is null")
        return count == 0

    await eventually(all_are_closed, "no session looks open")


@pytest.mark.parametrize("wins", ["take-over", "claim"])
async def test_a_claim_and_a_takeover_never_both_have_an_execution(
    gateway: RunningRole, jobs: Client, facts: Facts, wins: str
) -> None:
    """Whoever gets the session's row first: the execution goes to the old session before it is displaced, or to
    another one; never to a displaced one."""
    async with worker(gateway.address, "mailer") as old, worker(gateway.address, "mailer") as new:
        await old.register()
        session = await facts.session("mailer")
        async with facts.holding_session(session.session_id):
            if wins == "take-over":
                await new.send(registration=pb.WorkerRegistration(worker_id="mailer", capabilities=["email"]))
                await facts.blocked("lock_open_sessions")
                job_id = await jobs.submit()
            else:
                job_id = await jobs.submit()
                await facts.blocked("claim_executions")
                await new.send(registration=pb.WorkerRegistration(worker_id="mailer", capabilities=["email"]))
                await facts.blocked("lock_open_sessions")
        await new.ack()

        async def is_claimed() -> bool:
            return (await facts.executions(job_id))[-1].state == "claimed"

        await eventually(is_claimed, "it is claimed")
        [row] = await facts.sql(
            "select e.claimed_at, s.superseded_at from executions e join worker_sessions s using (session_id) "
            "where e.state = 'claimed'"
        )
        assert row["superseded_at"] is None or row["claimed_at"] <= row["superseded_at"]
