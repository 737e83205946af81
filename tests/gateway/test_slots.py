"""How much a worker is given: the server counts its slots, and only the worker's own answer frees one."""

from functools import partial

import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import BUSY, DRAINING, OFFLINE, READY, worker
from tcp_proxy import TcpProxy, proxy_to


async def test_a_worker_never_holds_more_than_its_slots_whatever_its_heartbeats_say(
    gateway: RunningRole, jobs: Client
) -> None:
    await jobs.submit_many(10)
    async with worker(gateway.address) as stream:
        await stream.register(slots=3)
        held = [assignment.execution_id for assignment in await stream.assignments(3)]
        for _ in range(7):
            await stream.beat()
            assert not stream.has_assignment
            await stream.finish(held.pop(0))
            held.append((await stream.assignment()).execution_id)


@pytest.mark.parametrize("status", [DRAINING, OFFLINE])
async def test_a_worker_that_is_leaving_is_assigned_nothing_more(
    gateway: RunningRole, jobs: Client, status: pb.WorkerStatus
) -> None:
    async with worker(gateway.address) as leaving, worker(gateway.address) as stream:
        await leaving.register(slots=100)
        await stream.register()
        await leaving.beat(status)
        for _ in range(3):
            job_id = await jobs.submit()
            assignment = await stream.assignment()
            assert assignment.job_id == job_id
            await stream.finish(assignment.execution_id)
        await leaving.beat(READY)
        await stream.beat(DRAINING)
        job_id = await jobs.submit()
        assert (await leaving.assignment()).job_id == job_id


async def test_a_busy_worker_is_assigned_what_its_slots_hold(gateway: RunningRole, jobs: Client) -> None:
    async with worker(gateway.address) as stream:
        await stream.register(slots=2)
        await stream.beat(BUSY)
        await jobs.submit_many(2)
        await stream.assignments(2)


async def test_a_worker_that_left_while_a_claim_was_under_way_is_sent_nothing(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    async with worker(gateway.address) as leaving, worker(gateway.address) as stream:
        await leaving.register()
        await jobs.submit()
        first = await leaving.assignment()
        async with facts.holding_session((await facts.session(leaving.worker_id)).session_id):
            await leaving.result(first.execution_id)
            await leaving.ack()
            job_id = await jobs.submit()
            await facts.blocked("claim_executions")
            await leaving.beat(DRAINING)
        await stream.register()
        assert (await stream.assignment()).job_id == job_id
        await leaving.beat(DRAINING)
        assert not leaving.has_assignment
        executions = await facts.executions(job_id)
        assert executions[-1].attempt == 1
        assert executions[-1].counted_before == 0


async def test_fewer_slots_take_nothing_away(gateway: RunningRole, jobs: Client) -> None:
    await jobs.submit_many(5)
    async with worker(gateway.address) as stream:
        await stream.register(slots=3)
        held = await stream.assignments(3)
        await stream.register(slots=1)
        for assignment in held[:2]:
            await stream.finish(assignment.execution_id)
            await stream.beat()
            assert not stream.has_assignment
        await stream.finish(held[2].execution_id)
        await stream.assignment()


async def test_a_claim_that_cannot_be_returned_yet_holds_up_no_other(site: Site, jobs: Client, facts: Facts) -> None:
    """Somebody keeps its job locked: it is returned when he lets go, and others are assigned meanwhile."""
    await site.mark_ready_queues_complete()
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as leaving,
        worker(gateway.address) as stream,
    ):
        await leaving.register("video")
        await stream.register("email", "video")
        await stream.beat()
        await jobs.submit("email")
        first = await stream.assignment()
        proxy.hold_once_before(lambda data: b"video.slow" in data)
        job_id = await jobs.submit("video.slow")
        await eventually(partial(is_held_back, proxy), "the claim is committed, its answer on its way")
        await leaving.beat(DRAINING)
        async with facts.holding_job(job_id):
            proxy.hear_again()
            await facts.blocked("lock_executions")
            await stream.finish(first.execution_id)
            for _ in range(3):
                following = await jobs.submit("email")
                assignment = await stream.assignment(patience_s=1.0)
                assert assignment.job_id == following
                await stream.finish(assignment.execution_id)
        assignment = await stream.assignment()
        assert (assignment.job_id, assignment.attempt) == (job_id, 1)


async def is_held_back(proxy: TcpProxy) -> bool:
    return proxy.holds
