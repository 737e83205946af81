"""Leadership: one scheduler acts as long as there is Redis, soon another when it is gone, and all without Redis."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest
from redis.asyncio import Redis

from dispatchd.adapters.redis.leader_lock import LOCK_LIFETIME, RedisLeaderLock
from dispatchd.application.scheduler.leadership import RENEW_EVERY, Leadership
from scheduler_loops import LEADER_KEY, leadership_at
from stores import redis_at, running
from tcp_proxy import proxy_to
from waiting import until

GAP_S = 3.0


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    async with redis_at(redis_address) as redis:
        yield redis


def leading(*candidates: Leadership) -> list[bool]:
    return [each.should_act for each in candidates]


async def test_one_of_several_acts_and_hands_over_when_it_stops(redis_address: str) -> None:
    async with leadership_at(redis_address) as second:
        async with leadership_at(redis_address) as third:
            await until(lambda: sum(leading(second, third)) == 1)
            async with leadership_at(redis_address) as late:
                await asyncio.sleep(RENEW_EVERY.total_seconds() * 2)
                assert not late.should_act
                first = second if second.should_act else third
                assert leading(second, third, late).count(True) == 1
            assert first.should_act
        # Whoever stops gives the lock up, so that another need not wait until it runs out.
        started = time.monotonic()
        await until(lambda: second.should_act)
        assert time.monotonic() - started < RENEW_EVERY.total_seconds() * 2


async def test_another_acts_soon_after_a_leader_died_without_a_word(redis_address: str, redis: Redis) -> None:
    dead = RedisLeaderLock(redis, LEADER_KEY, "dead")
    assert await dead.acquire_or_renew()
    died = time.monotonic()
    async with leadership_at(redis_address) as heir:
        await asyncio.wait_for(heir.wait_until_acting(), GAP_S)
        assert LOCK_LIFETIME.total_seconds() * 0.9 <= time.monotonic() - died <= GAP_S
        # The dead one comes back, as a process does that was frozen: it is told at its next word.
        assert not await dead.acquire_or_renew()
        await dead.release()
        assert heir.should_act
        assert await redis.get(LEADER_KEY) not in (None, b"dead")


async def test_a_leader_whose_lock_was_taken_stops_acting_and_waits_for_its_turn(
    redis_address: str, redis: Redis
) -> None:
    async with leadership_at(redis_address) as leadership:
        await until(lambda: leadership.should_act)
        await redis.set(LEADER_KEY, "somebody else", px=60_000)
        await until(lambda: not leadership.should_act)
        waiting = asyncio.ensure_future(leadership.wait_until_acting())
        await asyncio.sleep(0)
        assert not waiting.done()
        await redis.flushall()
        await asyncio.wait_for(waiting, GAP_S)


async def test_a_lock_lasts_two_seconds_and_its_renewals_go_on(redis_address: str, redis: Redis) -> None:
    async with leadership_at(redis_address) as leadership:
        await until(lambda: leadership.should_act)
        owner = await redis.get(LEADER_KEY)
        lifetimes = []
        for _ in range(30):
            lifetimes.append(await redis.pttl(LEADER_KEY))
            await asyncio.sleep(0.05)
        assert await redis.get(LEADER_KEY) == owner
    assert all(LOCK_LIFETIME / timedelta(milliseconds=1) * 0.5 < left <= 2_000 for left in lifetimes)
    assert max(later - earlier for earlier, later in pairwise(lifetimes)) > 200
    assert await redis.get(LEADER_KEY) is None


async def test_without_redis_everybody_acts_and_with_it_one_again(redis_address: str) -> None:
    async with proxy_to(redis_address) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        async with leadership_at(address) as one, leadership_at(address) as other:
            await until(lambda: sum(leading(one, other)) == 1)
            proxy.go_deaf()
            await until(lambda: leading(one, other) == [True, True])
            for each in (one, other):
                await asyncio.wait_for(each.wait_until_acting(), 1.0)
            proxy.hear_again()
            await until(lambda: sum(leading(one, other)) == 1)


async def test_a_lock_that_fails_in_a_way_nobody_foresaw_ends_nothing(redis: Redis) -> None:
    class Broken(RedisLeaderLock):
        failures = 0

        async def acquire_or_renew(self) -> bool:
            if Broken.failures < 2:
                Broken.failures += 1
                raise KeyError("nobody foresaw this")
            return await super().acquire_or_renew()

    leadership = Leadership(Broken(redis, LEADER_KEY, "me"))
    async with running(leadership.run()):
        await until(lambda: leadership.should_act)
