"""Calls of Redis end in time, whatever Redis does, and are really over when somebody cancels them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from dispatchd.adapters.redis import connection
from dispatchd.adapters.redis import signals as signals_module
from dispatchd.adapters.redis.leader_lock import RedisLeaderLock
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.adapters.redis.signals import RedisSignals, listen
from dispatchd.application.ports import Demand, HintsUnavailable, ReadyEntry
from stores import PREFIX, from_now, ids, redis_at, running
from tcp_proxy import TcpProxy, proxy_to
from waiting import until

LONGEST_S = 0.8
"""More than a call may take here, for a busy machine."""

Call = Callable[[], Awaitable[object]]


@pytest.fixture
async def proxy(redis_address: str) -> AsyncIterator[TcpProxy]:
    async with proxy_to(redis_address) as proxy:
        yield proxy


@pytest.fixture
async def redis(proxy: TcpProxy) -> AsyncIterator[Redis]:
    async with redis_at(f"127.0.0.1:{proxy.port}") as redis:
        yield redis


def calls(redis: Redis) -> dict[str, Call]:
    queue, signals = RedisReadyQueue(redis, PREFIX), RedisSignals(redis, PREFIX)
    lock = RedisLeaderLock(redis, "test:leader", "me")
    entries = [ReadyEntry(ids.execution_id(), "email", 0, from_now()) for _ in range(3)]
    return {
        "offer": lambda: queue.offer(entries),
        "pop": lambda: queue.pop([Demand(("email",), 1)], 1),
        "remove": lambda: queue.remove(entries),
        "absent": lambda: queue.absent(entries),
        "is_complete": lambda: queue.is_complete(1),
        "mark_complete": lambda: queue.mark_complete(1),
        "due_earlier": lambda: signals.due_earlier(timedelta(seconds=1)),
        "acquire_or_renew": lock.acquire_or_renew,
        "release": lock.release,
    }


async def test_a_call_ends_in_time_when_redis_does_not_answer_and_works_again_afterwards(
    redis: Redis, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = connection.TIMEOUT
    assert usual == timedelta(milliseconds=500)
    monkeypatch.setattr(connection, "TIMEOUT", timedelta(milliseconds=100))
    everything = calls(redis)
    await everything["mark_complete"]()
    for name, call in everything.items():
        await call()
        proxy.go_deaf()
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(HintsUnavailable):
                await call()
            assert time.monotonic() - started < LONGEST_S, name
        proxy.hear_again()
        await call()


async def test_a_call_ends_at_once_when_the_connection_breaks(redis: Redis, proxy: TcpProxy) -> None:
    everything = calls(redis)
    await everything["mark_complete"]()
    for call in everything.values():
        await call()
        proxy.cut()
        # What was said before the break was noticed is lost; the next call stands on a connection of its own.
        for _ in range(2):
            try:
                await call()
            except HintsUnavailable:
                continue
            break
        else:
            pytest.fail("Redis is there, and still can't be used")


async def test_a_call_without_redis_fails_at_once() -> None:
    async with redis_at("127.0.0.1:1") as redis:
        for call in calls(redis).values():
            started = time.monotonic()
            with pytest.raises(HintsUnavailable):
                await call()
            assert time.monotonic() - started < LONGEST_S


@pytest.mark.parametrize("name", ["acquire_or_renew", "offer"])
async def test_a_loop_that_calls_redis_is_over_when_it_is_cancelled_at_any_moment(redis: Redis, name: str) -> None:
    everything = calls(redis)
    await everything["mark_complete"]()
    call = everything[name]

    async def loop() -> None:
        while True:
            await call()

    for turns in range(120):
        task = asyncio.create_task(loop())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=5.0)
        assert task.cancelled(), f"cancelled after {turns} turns of the event loop, and went on"


async def test_as_many_hints_as_an_announcer_holds_are_offered(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    # How long that takes is not the question, and some of its commands take a busy machine half a second.
    monkeypatch.setattr(connection, "TIMEOUT", timedelta(seconds=60))
    queue = RedisReadyQueue(redis, PREFIX)
    entries = [ReadyEntry(ids.execution_id(), f"c{n % 7}", n % 3, from_now()) for n in range(50_000)]
    await queue.offer(entries)
    assert sum([await redis.zcard(f"{PREFIX}:queue:c{n}") for n in range(7)]) == 50_000
    await queue.remove(entries)
    assert await redis.keys(f"{PREFIX}:queue:*") == []


async def test_a_listener_hears_again_after_the_connection_broke_or_went_deaf(
    redis: Redis, proxy: TcpProxy, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals_module, "_LISTEN_S", 0.1)
    monkeypatch.setattr(signals_module, "_RECONNECT_S", 0.05)
    heard: list[bytes] = []
    subscriptions = 0

    def subscribed() -> None:
        nonlocal subscriptions
        subscriptions += 1

    async with redis_at(redis_address) as other, running(listen(redis, {"news": heard.append}, subscribed)):
        await until(lambda: subscriptions == 1)
        await other.publish("news", b"1")
        await until(lambda: heard == [b"1"])
        proxy.cut()
        await until(lambda: subscriptions == 2)
        await other.publish("news", b"2")
        await until(lambda: heard == [b"1", b"2"])
        # A connection that is dead without saying so is found out by a ping.
        connections = proxy.connections
        proxy.go_deaf()
        await until(lambda: proxy.connections > connections)
        proxy.hear_again()
        await until(lambda: subscriptions >= 3)
        before = len(heard)
        await other.publish("news", b"3")
        await until(lambda: b"3" in heard[before:])
