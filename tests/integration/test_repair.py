"""The repairer: ready queues that were emptied or damaged hold everything again, and nothing is added too soon."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.application.ports import Demand, HintsUnavailable, ReadyEntry
from dispatchd.application.scheduler import ready_queue_repairer
from dispatchd.application.scheduler.ready_queue_repairer import ReadyQueueRepairer
from dispatchd.domain.region import RegionFence
from scheduler_loops import leadership_at, repairing
from stores import PREFIX, Stores, from_now, insert, new_job, open_stores, redis_at, register, running, sql
from tcp_proxy import proxy_to
from waiting import eventually, until

LOOKS_APART_S = 0.05


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_queue_repairer, "LOOK_EVERY", timedelta(milliseconds=100))
    monkeypatch.setattr(ready_queue_repairer, "LOOKS_APART_S", LOOKS_APART_S)
    monkeypatch.setattr(ready_queue_repairer, "PAGE", 7)


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address) as stores:
        yield stores


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    async with redis_at(redis_address) as redis:
        yield redis


async def ready(stores: Stores, count: int, capability: str = "email") -> list[ReadyEntry]:
    """Executions that are ready in Postgres and unknown to Redis, in their order."""
    await insert(stores, *(new_job(f"{capability}.do", priority=n % 3) for n in range(count)))
    return await stores.recovery.ready_page(capability, None, count)


def lengths(redis: Redis, *capabilities: str) -> "asyncio.Future[list[int]]":
    return asyncio.gather(*(redis.zcard(f"{PREFIX}:queue:{capability}") for capability in capabilities))


async def filled(redis: Redis, **expected: int) -> None:
    async def look() -> bool:
        return await lengths(redis, *expected) == list(expected.values())

    await eventually(look)


async def test_emptied_queues_are_rebuilt_in_their_order_and_only_then_used(
    stores: Stores, redis: Redis, redis_address: str
) -> None:
    emails, reports = await ready(stores, 25), await ready(stores, 14, "report")
    with pytest.raises(HintsUnavailable):
        await stores.queue.pop([Demand(("email",), 1)], 1)
    async with repairing(stores, redis_address):
        await eventually(lambda: stores.queue.is_complete(1))
        assert await lengths(redis, "email", "report") == [25, 14]
        both = [Demand(("email",), 100), Demand(("report",), 100)]
        assert await stores.queue.pop(both, 1) == [emails, reports]
        # Emptied again while it works.
        await redis.flushall()
        await eventually(lambda: stores.queue.is_complete(1))
        assert await stores.queue.pop(both, 1) == [emails, reports]


async def test_queues_of_an_earlier_turn_as_the_active_region_are_rebuilt(
    database_url: str, stores: Stores, redis_address: str
) -> None:
    await stores.queue.mark_complete(1)
    async with sql(database_url) as session:
        await session.execute("update region set epoch = 3")
    await stores.region.look()
    entries = await ready(stores, 3)
    async with repairing(stores, redis_address):
        await eventually(lambda: stores.queue.is_complete(3))
        assert await stores.queue.pop([Demand(("email",), 9)], 3) == [entries]


async def test_what_was_lost_is_added_again_after_two_looks(stores: Stores, redis: Redis, redis_address: str) -> None:
    entries = await ready(stores, 30)
    await stores.queue.mark_complete(1)
    await stores.queue.offer(entries[::2])
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with repairing(stores, redis_address):
        await filled(redis, email=30)
        assert loop.time() - started >= LOOKS_APART_S
        assert await stores.queue.pop([Demand(("email",), 99)], 1) == [entries]


async def test_what_was_popped_and_is_being_claimed_is_not_added(
    database_url: str, stores: Stores, redis: Redis, redis_address: str
) -> None:
    [entry] = await ready(stores, 1)
    await stores.queue.mark_complete(1)
    looks: list[int] = []
    added: list[ReadyEntry] = []
    claimed = asyncio.Event()

    class Watched(RedisReadyQueue):
        async def absent(self, entries: Sequence[ReadyEntry]) -> list[ReadyEntry]:
            found = await super().absent(entries)
            looks.append(len(found))
            if found:
                # However long the claim takes here, it is committed before the next look.
                await claimed.wait()
            return found

        async def offer(self, entries: Sequence[ReadyEntry]) -> None:
            added.extend(entries)

    queue = Watched(redis, PREFIX)
    async with leadership_at(redis_address) as leadership:
        repairer = ReadyQueueRepairer(stores.recovery, queue, stores.region, leadership)
        async with running(repairer.run()):
            # Absent once: it was popped. Then its claim is committed, and it is no longer ready.
            await until(lambda: 1 in looks)
            hands = await register(stores)
            assert [each.execution_id for each in await hands.claim()] == [entry.execution_id]
            claimed.set()
            seen = len(looks)
            [again] = await ready(stores, 1)
            await RedisReadyQueue(redis, PREFIX).offer([again])
            await until(lambda: len(looks) >= seen + 10)
    assert added == []


async def test_what_stands_far_behind_is_found_by_the_slow_walk(
    stores: Stores, redis: Redis, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_queue_repairer, "HEAD", 21)
    monkeypatch.setattr(ready_queue_repairer, "SLOW_WALK_PAGES", 2)
    entries = await ready(stores, 150)
    await stores.queue.mark_complete(1)
    lost = {entries[30].execution_id, entries[95].execution_id, entries[149].execution_id}
    await stores.queue.offer([entry for entry in entries if entry.execution_id not in lost])
    async with repairing(stores, redis_address):
        await filled(redis, email=150)
        # And round again.
        await stores.queue.remove([entries[40], entries[148]])
        await filled(redis, email=150)


async def test_entries_of_what_has_ended_do_no_harm_and_waiting_ones_are_not_added(
    stores: Stores, redis: Redis, redis_address: str
) -> None:
    await insert(stores, new_job(run_at=from_now(hours=1)))
    [entry] = await ready(stores, 1)
    async with repairing(stores, redis_address):
        await eventually(lambda: stores.queue.is_complete(1))
        assert await stores.queue.pop([Demand(("email",), 9)], 1) == [[entry]]


async def test_without_redis_it_waits_and_goes_on_afterwards(
    database_url: str, redis_address: str, redis: Redis
) -> None:
    async with proxy_to(redis_address) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        async with open_stores(database_url, address) as stores:
            await ready(stores, 5)
            proxy.go_deaf()
            async with repairing(stores, address):
                connections = proxy.connections
                await until(lambda: proxy.connections >= connections + 2)
                proxy.hear_again()
                await filled(redis, email=5)


async def test_a_passive_region_adds_nothing(database_url: str, redis_address: str, redis: Redis) -> None:
    fence = RegionFence("elsewhere")
    async with open_stores(database_url, redis_address, fence=fence) as stores:
        await ready(stores, 3)
        async with repairing(stores, redis_address):
            await asyncio.sleep(0.3)
        assert await redis.keys(f"{PREFIX}:*") == []
