"""A gateway that stops: workers that can resume move on, the others finish, and nothing is lost or burned."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, WorkerStream, worker
from tcp_proxy import proxy_to

FEATURES = (RESUME, BATCHING)


async def test_a_worker_that_can_resume_moves_to_another_gateway_and_nothing_is_burned(
    site: Site, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(3)
    async with (
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(gateway.address, "mailer") as old,
        worker(other_gateway.address, "mailer") as new,
    ):
        await old.register(slots=2, features=FEATURES, process_id="p")
        held = [assignment.execution_id for assignment in await old.assignments(2)]
        gateway.ask_to_stop()
        signal = await old.drain_signal()
        assert (signal.kind, bool(signal.reason)) == (pb.DRAIN_KIND_RECONNECT, True)
        ack = await new.register(slots=2, features=FEATURES, process_id="p", held=held)
        assert not ack.lost_execution_ids
        await old.done_writing()
        assert (await old.ended())[0] in (grpc.StatusCode.OK, grpc.StatusCode.ABORTED)
        started = time.monotonic()
        await gateway.stop()
        assert time.monotonic() - started < 2.5, "it did not wait for its deadline"
        for execution_id in held:
            assert (await new.finish(execution_id)).outcome == ACCEPTED
        assert (await new.assignment()).job_id == job_ids[2]
    assert [len(await facts.executions(job_id)) for job_id in job_ids] == [1, 1, 1]


async def test_nothing_is_assigned_after_the_signal(gateway: RunningRole, jobs: Client) -> None:
    async with worker(gateway.address) as stream:
        await stream.register(slots=100, features=FEATURES, process_id="p")
        submitting = asyncio.create_task(submit_on_and_on(jobs))
        for _ in range(5):
            await stream.assignment()
        gateway.ask_to_stop()
        await stream.drain_signal()
        for _ in range(5):
            await stream.beat()
        await leave(stream)
        submitting.cancel()
        await asyncio.wait({submitting})
    kinds = [message.WhichOneof("payload") for message in stream.order]
    assert "assignments" not in kinds[kinds.index("drain_signal") :]


async def submit_on_and_on(jobs: Client) -> None:
    while True:
        await jobs.submit()


async def test_a_plain_worker_gets_no_signal_finishes_and_is_then_sent_elsewhere(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    first, second = await jobs.submit_many(2)
    async with worker(gateway.address) as stream:
        await stream.register()
        held = (await stream.assignment()).execution_id
        gateway.ask_to_stop()
        await not_serving(gateway)
        await stream.beat()
        assert (await stream.finish(held)).outcome == ACCEPTED
        code, details = await stream.ended()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "connect again" in details
        assert not stream.has_assignment
        assert {message.WhichOneof("payload") for message in stream.order} == {"ack", "assignment"}
        started = time.monotonic()
        await gateway.stop()
        assert time.monotonic() - started < 2.5, "it did not wait for its deadline"
    assert (await jobs.job(first)).status == pb.JOB_STATUS_SUCCEEDED
    [waiting] = await facts.executions(second)
    assert (waiting.state, waiting.delivery) == ("queued", 1)


async def not_serving(gateway: RunningRole) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        watch: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        call = watch(b"")
        async with asyncio.timeout(5.0):
            async for answer in call:
                if answer == b"\x08\x02":
                    break
        call.cancel()


async def test_a_worker_that_never_finishes_is_cut_off_at_the_deadline(site: Site, jobs: Client, facts: Facts) -> None:
    await jobs.submit()
    async with site.gateway(SHUTDOWN_TIMEOUT_SECONDS="1") as gateway, worker(gateway.address) as stream:
        await stream.register()
        execution_id = (await stream.assignment()).execution_id
        started = time.monotonic()
        gateway.ask_to_stop()
        assert (await stream.ended())[0] is grpc.StatusCode.UNAVAILABLE
        await gateway.stop()
        assert 0.9 < time.monotonic() - started < 4.0
        assert (await facts.execution(execution_id)).state == "claimed", "its lease runs on"


async def test_a_stopping_gateway_takes_no_new_stream(gateway: RunningRole, jobs: Client) -> None:
    await jobs.submit()
    async with worker(gateway.address) as busy, worker(gateway.address) as late:
        await busy.register()
        held = (await busy.assignment()).execution_id
        # The connection stands already; only the stream comes late.
        await late.connected()
        gateway.ask_to_stop()
        await not_serving(gateway)
        await late.send(registration=pb.WorkerRegistration(worker_id="late", capabilities=["email"]))
        assert (await late.ended())[0] is grpc.StatusCode.UNAVAILABLE
        assert (await busy.finish(held)).outcome == ACCEPTED


async def test_a_stream_that_registers_while_the_drain_begins_is_told_too(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    await jobs.submit()
    async with worker(gateway.address) as busy, worker(gateway.address, "mailer") as late:
        await busy.register()
        await busy.assignment()
        async with worker(gateway.address, "mailer") as before:
            await before.register(features=FEATURES, process_id="p")
        session = await facts.session("mailer")
        async with facts.holding_session(session.session_id):
            await late.send(
                registration=pb.WorkerRegistration(
                    worker_id="mailer", capabilities=["email"], features=FEATURES, process_id="p"
                )
            )
            await facts.blocked("lock_open_sessions")
            gateway.ask_to_stop()
            await not_serving(gateway)
        await late.ack()
        await late.drain_signal()


@pytest.mark.parametrize("features", [(), FEATURES])
async def test_a_claim_under_way_when_the_drain_begins_is_returned(
    gateway: RunningRole, jobs: Client, facts: Facts, features: tuple[pb.WorkerFeature, ...]
) -> None:
    async with worker(gateway.address) as stream:
        await stream.register(slots=2, features=features, process_id="p" if features else "")
        await jobs.submit()
        held = (await stream.assignment()).execution_id
        session = await facts.session(stream.worker_id)
        async with facts.holding_session(session.session_id):
            job_id = await jobs.submit()
            await facts.blocked("claim_executions")
            gateway.ask_to_stop()
            await not_serving(gateway)
        await stream.finish(held)
        if features:
            await leave(stream)
        await stream.ended()
        await gateway.stop()
        assert not stream.has_assignment
    executions = await facts.executions(job_id)
    assert [execution.end_reason for execution in executions[:-1]] in ([], ["returned"])
    last = executions[-1]
    assert (last.state, last.attempt, last.counted_before) == ("queued", 1, 0)


async def test_what_was_claimed_and_not_written_is_returned_even_if_the_database_was_away_for_a_moment(
    site: Site, jobs: Client, facts: Facts
) -> None:
    size = 60_000
    job_ids = [await jobs.submit("video.cut", payload=b"x" * size) for _ in range(6)]
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway(SHUTDOWN_TIMEOUT_SECONDS="8") as gateway,
        worker(gateway.address, reads=False) as deaf,
        worker(gateway.address) as busy,
    ):
        await busy.register()
        await jobs.submit()
        held = (await busy.assignment()).execution_id
        await deaf.send(
            registration=pb.WorkerRegistration(worker_id=deaf.worker_id, capabilities=["video"], max_concurrency=6)
        )

        async def all_are_claimed() -> bool:
            return not any(queue.depth for queue in await jobs.queues())

        await eventually(all_are_claimed, "all are claimed")
        proxy.go_deaf()
        gateway.ask_to_stop()
        await not_serving(gateway)
        proxy.cut()
        proxy.hear_again()

        async def unwritten_are_returned() -> bool:
            states = [(await facts.executions(job_id))[-1] for job_id in job_ids]
            return len([e for e in states if e.state == "queued" and e.counted_before == 0]) >= 3

        await eventually(unwritten_are_returned, "what was not written is returned")
        assert (await busy.finish(held)).outcome == ACCEPTED, "the drain goes on meanwhile"
        deaf.cancel()


async def test_a_stop_is_bounded_while_the_database_does_not_answer(site: Site, jobs: Client) -> None:
    async with proxy_to(host_and_port(site)) as proxy:
        gateway = behind(site, proxy.port).gateway(SHUTDOWN_TIMEOUT_SECONDS="1")
        async with gateway, worker(gateway.address) as stream:
            await stream.register(slots=5)
            await jobs.submit_many(5)
            await stream.assignments(5)
            proxy.go_deaf()
            for _ in range(3):
                await stream.heartbeat()
            started = time.monotonic()
            await gateway.stop()
            assert time.monotonic() - started < 6.0
            assert (await stream.ended())[0] is grpc.StatusCode.UNAVAILABLE


async def leave(stream: WorkerStream) -> None:
    await stream.done_writing()
    await stream.ended()


async def test_a_gateway_without_streams_stops_at_once(site: Site) -> None:
    async with site.gateway() as gateway:
        async with worker(gateway.address) as stream:
            await stream.register()
            await leave(stream)
        started = time.monotonic()
        await gateway.stop()
        assert timedelta(seconds=time.monotonic() - started) < timedelta(seconds=2)
