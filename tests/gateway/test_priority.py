"""Which execution is assigned next, to whom, and how soon: from the ready queues in Redis, and without Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.telemetry import metrics
from gateway.client import Client
from gateway.facts import Facts, eventually, uuid_of
from gateway.roles import READY_QUEUES, RunningRole, Site
from gateway.worker_stream import WorkerStream, worker

NO_REDIS = "127.0.0.1:1"
LATE_S = 1.5
"""A gateway with free slots looks once a second; the rest is for a busy machine."""
SOON_S = 0.25
TRIES, MOSTLY = 15, 11
"""Of what is found at a look once a second, so many come soon about once in 10,000 runs. The others are for a busy
machine."""


@pytest.fixture(params=["redis", "postgres"])
async def site(request: pytest.FixtureRequest, database_url: str, redis_address: str) -> AsyncIterator[Site]:
    """With complete ready queues, or without any Redis; afterwards all claims came from there."""
    source = str(request.param)
    before = claimed_from(source)
    if source == "redis":
        site = Site(database_url, redis_address)
        await site.mark_ready_queues_complete()
        yield site
    else:
        yield Site(database_url, NO_REDIS)
    assert claimed_from(source) > before


def claimed_from(source: str) -> float:
    return metrics.REGISTRY.get_sample_value("dispatchd_executions_claimed_total", {"source": source}) or 0.0


async def hints_are_there(site: Site, capability: str, count: int) -> None:
    """Waits until the ready queue holds this many. They follow the commits, and so the answers, by a moment."""
    if site.environ["REDIS_ADDRESS"] == NO_REDIS:
        return
    async with Redis.from_url(f"redis://{site.environ['REDIS_ADDRESS']}") as redis:

        async def are_there() -> bool:
            return bool(await redis.zcard(f"{READY_QUEUES}:queue:{capability}") == count)

        await eventually(are_there, f"{count} hints are in the queue of {capability}")


async def work_off(stream: WorkerStream, count: int) -> list[str]:
    """Takes and finishes executions one after the other; the ids of their jobs."""
    done = []
    for _ in range(count):
        assignment = await stream.assignment()
        done.append(assignment.job_id)
        await stream.finish(assignment.execution_id)
    return done


@asynccontextmanager
async def workers(address: str, count: int, *capabilities: str, slots: int = 1) -> AsyncIterator[list[WorkerStream]]:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(worker(address)) for _ in range(count)]
        for stream in streams:
            await stream.register(*capabilities, slots=slots)
        yield streams


# --- order --------------------------------------------------------------------------------------------------------


async def test_priority_is_strict_across_the_capabilities_of_a_worker(
    site: Site, jobs: Client, gateway: RunningRole
) -> None:
    expected = []
    for priority, job_type in [(0, "email"), (5, "sms.send"), (10_000, "email.x"), (9_999, "sms"), (2**31 - 1, "push")]:
        expected.append((priority, await jobs.submit(job_type, priority=priority)))
    expected.sort(reverse=True)
    for capability, count in [("email", 2), ("sms", 2), ("push", 1)]:
        await hints_are_there(site, capability, count)
    async with worker(gateway.address) as stream:
        await stream.register("email", "sms", "push")
        assert await work_off(stream, 5) == [job_id for _, job_id in expected]


async def test_within_a_priority_the_first_comes_first(site: Site, jobs: Client, gateway: RunningRole) -> None:
    job_ids = [await jobs.submit(["email", "sms"][number % 2]) for number in range(12)]
    listed = await jobs.submit_many(40)
    await hints_are_there(site, "email", 46)
    await hints_are_there(site, "sms", 6)
    async with worker(gateway.address) as stream:
        await stream.register("sms", "email", slots=4)
        async with worker(gateway.address) as other:
            assert [a.job_id for a in await stream.assignments(4)] == job_ids[:4]
            await other.register("sms", "email", slots=100)
            assert [a.job_id for a in await other.assignments(48)] == [*job_ids[4:], *listed]


async def test_an_urgent_job_overtakes_a_long_backlog(site: Site, jobs: Client, gateway: RunningRole) -> None:
    backlog = await jobs.submit_many(1_000)
    async with worker(gateway.address) as stream:
        await stream.register()
        first = await stream.assignment()
        assert first.job_id == backlog[0]
        urgent = [await jobs.submit(priority=1), await jobs.submit(priority=2)]
        await hints_are_there(site, "email", 1_001)
        await stream.finish(first.execution_id)
        assert await work_off(stream, 3) == [urgent[1], urgent[0], backlog[1]]


async def test_priority_is_strict_across_gateways(site: Site, jobs: Client, gateway: RunningRole) -> None:
    await jobs.submit_many(20)
    async with (
        site.gateway(INSTANCE_ID="gateway-2") as other_gateway,
        worker(gateway.address) as one,
        worker(other_gateway.address) as other,
    ):
        await one.register()
        await other.register()
        running = [await one.assignment(), await other.assignment()]
        urgent = [await jobs.submit(priority=priority) for priority in (7, 9, 8)]
        await hints_are_there(site, "email", 21)
        await other.finish(running[1].execution_id)
        assert await work_off(other, 1) == [urgent[1]]
        await one.finish(running[0].execution_id)
        assert urgent[2] in [*await work_off(one, 1), (await other.assignment()).job_id]


async def test_the_emptiest_worker_of_a_gateway_gets_it(jobs: Client, gateway: RunningRole) -> None:
    async with workers(gateway.address, 4, slots=3) as streams:
        # A look that began before all were there may not have seen the last ones.
        await jobs.submit()
        await finish_one(streams)
        for already in range(3):
            for _ in streams:
                await jobs.submit()
            taken = [await stream.assignment() for stream in streams]
            assert len({assignment.job_id for assignment in taken}) == 4, f"one each, beside {already} that each has"


async def finish_one(streams: Sequence[WorkerStream]) -> None:
    """Waits for an assignment to any of them, and finishes it."""

    async def holder() -> WorkerStream | None:
        return next((stream for stream in streams if stream.has_assignment), None)

    stream = await eventually(holder, "one of them has an assignment")
    await stream.finish((await stream.assignment()).execution_id)


# --- when ---------------------------------------------------------------------------------------------------------


async def test_a_commit_wakes_the_gateway(jobs: Client, gateway: RunningRole) -> None:
    soon = 0
    async with worker(gateway.address) as stream:
        await stream.register()
        for _ in range(TRIES):
            started = time.monotonic()
            await jobs.submit()
            assignment = await stream.assignment()
            soon += time.monotonic() - started < SOON_S
            await stream.finish(assignment.execution_id)
    assert soon >= MOSTLY


async def test_a_freed_slot_wakes_the_gateway(jobs: Client, gateway: RunningRole) -> None:
    soon = 0
    await jobs.submit_many(TRIES + 1)
    async with worker(gateway.address) as stream:
        await stream.register()
        assignment = await stream.assignment()
        for _ in range(TRIES):
            started = time.monotonic()
            await stream.result(assignment.execution_id)
            assignment = await stream.assignment()
            soon += time.monotonic() - started < SOON_S
    assert soon >= MOSTLY


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_a_lost_wake_up_is_made_good_within_a_second(
    site: Site, jobs: Client, gateway: RunningRole, facts: Facts
) -> None:
    async with worker(gateway.address) as stream:
        await stream.register()
        await work_off_one(jobs, stream)
        job_id = await jobs.submit("sms")
        # Becomes an email's without a word to anybody.
        await facts.sql("update jobs set job_type = 'email', capability = 'email' where job_id = $1", uuid_of(job_id))
        await facts.sql("update executions set capability = 'email' where job_id = $1", uuid_of(job_id))
        await hints_are_there(site, "sms", 1)
        async with Redis.from_url(f"redis://{site.environ['REDIS_ADDRESS']}") as redis:
            await redis.rename(f"{READY_QUEUES}:queue:sms", f"{READY_QUEUES}:queue:email")
        started = time.monotonic()
        assert (await stream.assignment()).job_id == job_id
        assert time.monotonic() - started < LATE_S


async def work_off_one(jobs: Client, stream: WorkerStream) -> None:
    await jobs.submit()
    await work_off(stream, 1)


# --- nobody is passed over ----------------------------------------------------------------------------------------


async def test_idle_workers_of_another_kind_take_nobodys_turn(jobs: Client, gateway: RunningRole) -> None:
    """More slots than a batch has items wait for a kind of which there is nothing."""
    async with worker(gateway.address) as idle, worker(gateway.address) as stream:
        await idle.register("nothing", slots=1_000)
        await stream.register()
        job_id = await jobs.submit()
        assert (await stream.assignment(LATE_S)).job_id == job_id


async def test_a_long_backlog_of_one_kind_holds_up_no_other(jobs: Client, gateway: RunningRole) -> None:
    for _ in range(2):
        await jobs.submit_many(1_000, "bulk.load")
    [job_id] = await jobs.submit_many(1, "email")
    async with worker(gateway.address) as busy, worker(gateway.address) as stream:
        await busy.register("bulk", slots=1_000)
        finishing = asyncio.create_task(work_off_all(busy))
        await stream.register()
        assert (await stream.assignment()).job_id == job_id
        taken = await stop(finishing)
    assert taken < 2_000


async def work_off_all(stream: WorkerStream) -> int:
    taken = 0
    try:
        while True:
            await stream.result((await stream.assignment()).execution_id)
            taken += 1
    except asyncio.CancelledError:
        return taken


async def stop(task: "asyncio.Task[int]") -> int:
    task.cancel()
    return await task


async def test_one_execution_that_cannot_be_claimed_holds_up_none_of_the_others(
    jobs: Client, gateway: RunningRole, facts: Facts
) -> None:
    job_ids = await jobs.submit_many(256)
    guilty = job_ids[100]
    await facts.refuse_state(guilty, "claimed")
    async with worker(gateway.address) as stream:
        await stream.register(slots=256)
        assert [a.job_id for a in await stream.assignments(255)] == [j for j in job_ids if j != guilty]
    async with worker(gateway.address) as stream:
        await stream.register("email")
        following = await jobs.submit(priority=1)
        assert (await stream.assignment()).job_id == following, "one slot, and the guilty one is not tried for ever"


async def test_the_best_one_that_cannot_be_claimed_does_not_block_a_worker_with_one_slot(
    jobs: Client, gateway: RunningRole, facts: Facts
) -> None:
    guilty = await jobs.submit(priority=9)
    await facts.refuse_state(guilty, "claimed")
    job_ids = await jobs.submit_many(3)
    async with worker(gateway.address) as stream:
        await stream.register()
        assert await work_off(stream, 3) == job_ids


async def test_a_session_that_is_over_is_offered_nothing_more(jobs: Client, gateway: RunningRole, facts: Facts) -> None:
    """Taken over elsewhere, unheard of here: what it was offered goes to others at once."""
    async with worker(gateway.address, "mailer") as zombie, worker(gateway.address) as stream:
        await zombie.register(slots=100)
        await facts.sql("update worker_sessions set superseded_at = now() where worker_id = 'mailer'")
        await stream.register(slots=3)
        job_ids = await jobs.submit_many(3)
        assert {(await stream.assignment(LATE_S)).job_id for _ in range(3)} == set(job_ids)
        assert (await zombie.ended())[1].startswith("superseded")
        assert not zombie.has_assignment


# --- what Redis says ----------------------------------------------------------------------------------------------


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(f"redis://{redis_address}") as redis:
        yield redis


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_strangers_in_a_ready_queue_hold_up_nobody(
    site: Site, jobs: Client, gateway: RunningRole, redis: Redis
) -> None:
    job_id = await jobs.submit()
    await hints_are_there(site, "email", 1)
    strangers = {"no id": -9, "0" * 16 + "f" * 32: -8, "ÿ" * 48: -7, "z" * 48: float("-inf")}
    await redis.zadd(f"{READY_QUEUES}:queue:email", strangers)
    async with worker(gateway.address) as stream:
        await stream.register()
        assert (await stream.assignment()).job_id == job_id


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_an_emptied_redis_neither_hides_nor_reorders_anything(
    site: Site, jobs: Client, gateway: RunningRole, redis: Redis
) -> None:
    await jobs.submit_many(1, "other")
    async with worker(gateway.address) as stream:
        await stream.register("other", "email")
        await work_off(stream, 1)
        before = claimed_from("postgres")
        await redis.flushall()
        late = await jobs.submit_many(3)
        urgent = await jobs.submit(priority=3)
        done = await work_off(stream, 4)
        assert claimed_from("postgres") - before == 4, "without the marker of this epoch Redis is not believed"
        assert done.index(urgent) < 3
        assert [job_id for job_id in done if job_id != urgent] == late


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_queues_of_another_epoch_are_not_believed(
    site: Site, jobs: Client, gateway: RunningRole, redis: Redis
) -> None:
    await jobs.submit_many(1, "other")
    async with worker(gateway.address) as stream:
        await stream.register("other", "email")
        await work_off(stream, 1)
        await redis.set(f"{READY_QUEUES}:epoch", 2)
        before = claimed_from("postgres")
        job_id = await jobs.submit()
        assert (await stream.assignment()).job_id == job_id
        assert claimed_from("postgres") == before + 1


@pytest.mark.parametrize("site", ["redis"], indirect=True)
async def test_while_the_database_is_down_entries_wait_in_redis_and_are_not_popped_on_and_on(
    site: Site, jobs: Client, gateway: RunningRole, redis: Redis, postgres: EmbeddedPostgres
) -> None:
    async with worker(gateway.address) as stream:
        await stream.register()
        await jobs.submit()
        await work_off(stream, 1)
        await asyncio.to_thread(postgres.stop)
        try:
            await redis.zadd(f"{READY_QUEUES}:queue:email", {"0" * 16 + "1" * 32: 0})
            await redis.config_resetstat()
            started = time.monotonic()

            async def is_two_seconds_later() -> bool:
                return time.monotonic() - started > 2

            await eventually(is_two_seconds_later, "two seconds have passed", look_s=0.1)
            pops = (await redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
            assert 1 <= pops <= 10
            assert await redis.zcard(f"{READY_QUEUES}:queue:email") in (0, 1)
        finally:
            await asyncio.to_thread(postgres.start)
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register()
        assert (await stream.assignment()).job_id == job_id
