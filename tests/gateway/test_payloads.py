"""Large payloads reach their workers whole, in messages that every client takes, within a gateway's memory."""

import hashlib
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually, uuid_of
from gateway.outage import behind, host_and_port
from gateway.roles import RunningRole, Site
from gateway.worker_stream import BATCHING, RESUME, worker
from tcp_proxy import TcpProxy, proxy_to

MIB = 1024 * 1024
ROOM = 4 * MIB - 64 * 1024


def payload_of(number: int, size: int = 2 * MIB) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (size // 32)


async def test_payloads_of_every_size_arrive_whole_in_messages_below_4_mib(gateway: RunningRole, jobs: Client) -> None:
    sizes = [32, 64 * 1024, 64 * 1024 + 32, MIB, 2 * MIB] * 3
    expected = {}
    for number, size in enumerate(sizes):
        expected[await jobs.submit(payload=payload_of(number, size), metadata={"k": "v" * 1000})] = (number, size)
    async with worker(gateway.address) as batched, worker(gateway.address) as plain:
        await batched.register(slots=8, features=[BATCHING])
        await plain.register(slots=7)
        taken = await batched.assignments(8) + await plain.assignments(7)
        assert {a.job_id for a in taken} == set(expected)
        for assignment in taken:
            assert assignment.payload == payload_of(*expected[assignment.job_id])
            assert assignment.metadata == {"k": "v" * 1000}
        for stream in (batched, plain):
            assert all(message.ByteSize() <= ROOM for message in stream.order)
            await stream.beat()


async def test_many_middling_payloads_to_one_worker_are_split_into_several_messages(
    gateway: RunningRole, jobs: Client
) -> None:
    """A burst of 250 times 60 KiB is 15 MiB: as many messages as needed, none too large, and none lost."""
    job_ids = [await jobs.submit(payload=payload_of(number, 60 * 1024)) for number in range(250)]
    async with worker(gateway.address) as stream:
        await stream.register(slots=250, features=[BATCHING])
        taken = await stream.assignments(250)
        assert {a.job_id for a in taken} == set(job_ids)
        assert all(message.ByteSize() <= ROOM for message in stream.order)


async def test_large_payloads_to_workers_that_read_slowly_stay_within_the_memory_of_a_role(
    site: Site, jobs: Client
) -> None:
    """A real process, for its memory: ten workers, forty times 2 MiB, most of it not read."""
    for number in range(40):
        await jobs.submit("video.cut", payload=payload_of(number))
    process = RoleProcess(
        Role.WORKER_GATEWAY, "worker-gateway", site.environ, free_port(), free_port(), lambda _name, _line: None
    )
    await process.start()
    try:
        await process.wait_ready()
        before = most = resident_bytes(process.pid)
        async with AsyncExitStack() as stack:
            for _ in range(9):
                deaf = await stack.enter_async_context(worker(process.grpc_address, reads=False))
                await deaf.send(
                    registration=pb.WorkerRegistration(
                        worker_id=deaf.worker_id, capabilities=["video"], max_concurrency=4
                    )
                )
            stream = await stack.enter_async_context(worker(process.grpc_address))
            await stream.register("video", slots=4)

            async def all_are_claimed() -> bool:
                nonlocal most
                most = max(most, resident_bytes(process.pid))
                await stream.beat()
                return not any(queue.depth for queue in await jobs.queues())

            await eventually(all_are_claimed, "all are claimed")
            for _ in range(20):
                await all_are_claimed()
        assert most < before + 50 * MIB, f"{before // MIB} MiB before, {most // MIB} MiB at most"
    finally:
        assert await process.stop(20.0) == 0


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_cut_of_the_database_while_a_payload_is_read_only_delays_it(site: Site, jobs: Client) -> None:
    payload = payload_of(1)
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register()
        proxy.cut_once_before(lambda data: payload[:32] in data)
        job_id = await jobs.submit(payload=payload)
        assignment = await stream.assignment()
        assert proxy.cuts == 1
        assert (assignment.job_id, assignment.attempt, assignment.payload) == (job_id, 1, payload)
        await stream.beat()


async def test_a_job_that_is_gone_before_its_payload_was_read_frees_its_slot(
    site: Site, jobs: Client, facts: Facts
) -> None:
    payload = payload_of(1)
    async with (
        proxy_to(host_and_port(site)) as proxy,
        behind(site, proxy.port).gateway() as gateway,
        worker(gateway.address) as stream,
    ):
        await stream.register(features=[RESUME], process_id="p")
        proxy.hold_once_before(lambda data: payload[:32] in data)
        gone = uuid_of(await jobs.submit(payload=payload))
        await eventually(proxy_holds(proxy), "the payload is on its way")
        for table in ("job_inputs", "executions", "jobs"):
            await facts.sql(f"delete from {table} where job_id = $1", gone)
        following = await jobs.submit()
        proxy.cut()
        proxy.hear_again()
        assert (await stream.assignment()).job_id == following
        await stream.beat()


def proxy_holds(proxy: TcpProxy) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return proxy.holds

    return holds
