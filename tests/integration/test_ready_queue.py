"""Ready queues: strict order across capabilities, one taker for each entry, and nothing taken from a stale queue."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.application.ports import Demand, HintsUnavailable, ReadyEntry
from dispatchd.domain.ids import ExecutionId
from stores import PREFIX, ids, redis_at

START = datetime(2030, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    async with redis_at(redis_address) as redis:
        yield redis


@pytest.fixture
async def queue(redis: Redis) -> RedisReadyQueue:
    """Complete for epoch 1."""
    queue = RedisReadyQueue(redis, PREFIX)
    await queue.mark_complete(1)
    return queue


def entry(capability: str = "email", priority: int = 0, late_us: int = 0, number: int | None = None) -> ReadyEntry:
    execution_id = ids.execution_id() if number is None else ExecutionId(UUID(int=number))
    return ReadyEntry(execution_id, capability, priority, START + late_us * MICROSECOND)


def rank(entry: ReadyEntry) -> tuple[int, datetime, UUID]:
    return (-entry.priority, entry.due_at, entry.execution_id)


async def pop(queue: RedisReadyQueue, *capabilities: str, slots: int = 100) -> list[ReadyEntry]:
    [entries] = await queue.pop([Demand(capabilities, slots)], 1)
    return entries


async def test_priority_decides_then_the_due_time_then_the_id(queue: RedisReadyQueue) -> None:
    entries = [
        entry(priority=2**31 - 1, late_us=1, number=3),
        entry(priority=2**31 - 2, late_us=0, number=1),
        entry(priority=5_001, late_us=1, number=1),
        entry(priority=5_001, late_us=2, number=1),
        entry(priority=5_000, late_us=0, number=2),
        entry(priority=5_000, late_us=0, number=4),
        entry(priority=0, late_us=0, number=9),
        entry(priority=0, late_us=1, number=5),
    ]
    await queue.offer(entries[::-1])
    assert await pop(queue, "email") == entries
    assert await pop(queue, "email") == []


async def test_the_best_of_several_capabilities_comes_first(queue: RedisReadyQueue) -> None:
    entries = [entry(f"c{n % 3}", priority=n % 5, late_us=n % 7) for n in range(60)]
    await queue.offer(entries)
    best = sorted(entries, key=rank)
    assert await pop(queue, "c0", "c1", "c2", slots=10) == best[:10]
    assert await pop(queue, "c2", "c0", "c1", "none") == best[10:]


async def test_demands_are_served_in_their_order_from_what_is_left(queue: RedisReadyQueue) -> None:
    emails = [entry("email", late_us=n) for n in range(5)]
    reports = [entry("report", late_us=n) for n in range(5)]
    await queue.offer([*emails, *reports])
    demands = [Demand(("email",), 2), Demand(("email", "report"), 4), Demand(("report",), 9), Demand(("other",), 1)]
    first, second, third, fourth = await queue.pop(demands, 1)
    assert first == emails[:2]
    assert second == sorted([*emails[2:], *reports], key=rank)[:4]
    assert third == [each for each in reports if each not in second]
    assert fourth == []


entries_strategy = st.lists(
    st.builds(
        ReadyEntry,
        st.uuids().map(ExecutionId),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 2**31 - 1) | st.integers(0, 2),
        (st.integers(0, 3) | st.integers(-(10**15), 10**17)).map(lambda n: START + n * MICROSECOND),
    ),
    max_size=20,
    unique_by=lambda each: each.execution_id,
)


@given(entries_strategy, st.integers(1, 20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_offered_comes_back_in_order(redis_address: str, entries: Sequence[ReadyEntry], slots: int) -> None:
    async def check() -> None:
        async with redis_at(redis_address) as redis:
            await redis.flushall()
            queue = RedisReadyQueue(redis, PREFIX)
            await queue.mark_complete(1)
            await queue.offer(entries)
            popped = []
            while batch := await pop(queue, "a", "b", "c", slots=slots):
                popped += batch
            assert popped == sorted(entries, key=rank)

    asyncio.run(check())


async def test_each_entry_is_taken_by_one_of_many_who_pop_at_once(queue: RedisReadyQueue, redis_address: str) -> None:
    entries = [entry(f"c{n % 2}", late_us=n) for n in range(400)]
    await queue.offer(entries)
    async with redis_at(redis_address) as other:
        takers = [queue, RedisReadyQueue(other, PREFIX)] * 10
        taken = await asyncio.gather(*(pop(each, "c0", "c1", slots=20) for each in takers))
    assert sorted((each for batch in taken for each in batch), key=rank) == entries


async def test_an_offer_says_which_capabilities_have_something_new(queue: RedisReadyQueue, redis: Redis) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe(f"{PREFIX}:wake")
        await heard.get_message(timeout=5.0)
        await queue.put_back([entry("silent")])
        await queue.offer([entry("b"), entry("a"), entry("b")])
        await queue.offer([])
        message = await heard.get_message(timeout=5.0)
        assert message is not None
        assert sorted(message["data"].split(b"\n")) == [b"a", b"b"]
        assert await heard.get_message(timeout=0.05) is None


async def test_an_entry_offered_twice_is_there_once(queue: RedisReadyQueue) -> None:
    one = entry()
    await queue.offer([one])
    await queue.put_back([one])
    assert await pop(queue, "email") == [one]


async def test_what_has_ended_is_removed_and_what_is_absent_is_found(queue: RedisReadyQueue) -> None:
    entries = [entry(f"c{n % 3}") for n in range(9)]
    await queue.offer(entries[:6])
    assert {each.execution_id for each in await queue.absent(entries)} == {each.execution_id for each in entries[6:]}
    await queue.remove([entries[0], entries[8]])
    await queue.remove([])
    assert entries[0] in await queue.absent(entries)
    assert sorted(await pop(queue, "c0", "c1", "c2"), key=rank) == sorted(entries[1:6], key=rank)
    assert await queue.absent([]) == []


@pytest.mark.parametrize("epoch", [0, 2, 10, 11])
async def test_nothing_is_taken_from_queues_of_another_epoch(queue: RedisReadyQueue, epoch: int) -> None:
    await queue.offer([entry()])
    assert not await queue.is_complete(epoch)
    with pytest.raises(HintsUnavailable):
        await queue.pop([Demand(("email",), 1)], epoch)
    assert await queue.is_complete(1)
    assert len(await pop(queue, "email")) == 1


async def test_nothing_is_taken_before_the_queues_are_complete_or_after_they_were_emptied(
    queue: RedisReadyQueue, redis: Redis
) -> None:
    await redis.flushall()
    await queue.offer([entry()])
    assert not await queue.is_complete(1)
    with pytest.raises(HintsUnavailable):
        await pop(queue, "email")
    # The scripts are gone too, and come back by themselves.
    await redis.script_flush()
    await queue.mark_complete(1)
    assert len(await pop(queue, "email")) == 1


async def test_what_is_no_entry_is_thrown_away_and_takes_nobodys_place(queue: RedisReadyQueue, redis: Redis) -> None:
    real = [entry(late_us=n) for n in range(3)]
    await queue.offer(real)
    strangers = {b"": -1.0, b"\xff" * 48: -2.0, b"f" * 48: -3.0, b"0" * 16 + b"z" * 32: -4.0, b"x": float("-inf")}
    await redis.zadd(f"{PREFIX}:queue:email", strangers)
    assert await pop(queue, "email", slots=2) == real[:2]
    assert await pop(queue, "email") == real[2:]
    await redis.set(f"{PREFIX}:queue:wrong", "no sorted set")
    with pytest.raises(HintsUnavailable):
        await pop(queue, "wrong")
