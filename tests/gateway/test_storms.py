"""Many streams at once, and a database that is slow: what one does, others must not feel."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import grpc

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, Session, eventually
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, WorkerStream, worker
from tcp_proxy import proxy_to

AT_ONCE_S = 1.0


async def is_renewed_since(facts: Facts, stream: WorkerStream, before: Session) -> bool:
    return (await facts.session(stream.worker_id)).lease_expires_at > before.lease_expires_at


async def test_registrations_that_are_stuck_hold_up_no_result_and_no_renewal(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    """More of them than the gateway has connections to the database."""
    await jobs.submit_many(3)
    async with worker(gateway.address) as stream, AsyncExitStack() as crowd:
        await stream.register()
        async with facts.holding("lock table workers in access exclusive mode"):
            streams = [await crowd.enter_async_context(worker(gateway.address)) for _ in range(100)]
            for other in streams:
                await other.send(registration=pb.WorkerRegistration(worker_id=other.worker_id, capabilities=["sms"]))
            await facts.blocked("upsert_worker")
            for _ in range(3):
                before = await facts.session(stream.worker_id)
                execution_id = (await stream.assignment(AT_ONCE_S)).execution_id
                await stream.result(execution_id)
                assert (await stream.ack(AT_ONCE_S)).outcome == ACCEPTED
                await stream.heartbeat()
                await stream.ack(AT_ONCE_S)
                await eventually(partial(is_renewed_since, facts, stream, before), "the lease is renewed", AT_ONCE_S)


async def test_a_crowd_of_workers_registers_and_works(gateway: RunningRole, jobs: Client) -> None:
    job_ids = await jobs.submit_many(300)
    done: list[str] = []
    all_are_done = asyncio.Event()

    async def work(stream: WorkerStream) -> None:
        await stream.register(slots=2)
        while True:
            assignment = await stream.assignment()
            assert (await stream.finish(assignment.execution_id)).outcome == ACCEPTED
            done.append(assignment.job_id)
            if len(done) == len(job_ids):
                all_are_done.set()

    async with AsyncExitStack() as crowd:
        streams = [await crowd.enter_async_context(worker(gateway.address)) for _ in range(150)]
        working = [asyncio.create_task(work(stream)) for stream in streams]
        await asyncio.wait_for(all_are_done.wait(), 20.0)
        for task in working:
            task.cancel()
        await asyncio.wait(working)
    assert sorted(done) == sorted(job_ids)


async def test_the_end_of_a_stream_waits_for_no_database(site: Site) -> None:
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register()
        proxy.go_deaf()
        started = time.monotonic()
        await stream.heartbeat(worker_id="another")
        assert (await stream.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert time.monotonic() - started < 2.0


async def test_while_the_database_is_away_a_worker_is_refused_within_seconds(site: Site) -> None:
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as stream,
    ):
        proxy.go_deaf()
        started = time.monotonic()
        await stream.send(registration=pb.WorkerRegistration(worker_id="w", capabilities=["email"]))
        assert (await stream.ended())[0] is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - started < 5.0
