"""What is announced reaches Redis, after a short break too, and nothing that happens to Redis ends the announcer."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.adapters.redis.signals import RedisSignals
from dispatchd.application import announcer as announcer_module
from dispatchd.application.announcer import Announcer
from dispatchd.application.ports import Demand, ReadyEntry
from stores import PREFIX, from_now, ids, redis_at, running
from tcp_proxy import TcpProxy, proxy_to
from waiting import eventually, until


@pytest.fixture
async def proxy(redis_address: str) -> AsyncIterator[TcpProxy]:
    async with proxy_to(redis_address) as proxy:
        yield proxy


@pytest.fixture
async def redis(redis_address: str) -> AsyncIterator[Redis]:
    """A look past the proxy."""
    async with redis_at(redis_address) as redis:
        yield redis


@pytest.fixture
async def announcer(proxy: TcpProxy) -> AsyncIterator[Announcer]:
    async with redis_at(f"127.0.0.1:{proxy.port}") as through:
        announcer = Announcer(RedisReadyQueue(through, PREFIX), RedisSignals(through, PREFIX))
        async with running(announcer.run()):
            yield announcer


def entry() -> ReadyEntry:
    return ReadyEntry(ids.execution_id(), "email", 0, from_now())


async def queued(redis: Redis, count: int) -> None:
    async def look() -> bool:
        return bool(await redis.zcard(f"{PREFIX}:queue:email") == count)

    await eventually(look)


async def test_everything_is_said_on_its_channel(announcer: Announcer, redis: Redis) -> None:
    heard: list[tuple[bytes, bytes]] = []
    job_ids = [ids.job_id(), ids.job_id()]
    execution_id, session_id = ids.execution_id(), ids.session_id()

    async def listen(subscription: object) -> None:
        while True:
            message = await subscription.get_message(timeout=5.0)  # type: ignore[attr-defined]
            if message is not None:
                heard.append((message["channel"].removeprefix(f"{PREFIX}:".encode()), message["data"]))

    async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.psubscribe(f"{PREFIX}:*")
        await subscription.get_message(timeout=5.0)
        async with running(listen(subscription)):
            gone = entry()
            announcer.ready([entry(), gone])
            announcer.finished(job_ids)
            announcer.somebody_waits()
            announcer.waiting(timedelta(seconds=2))
            announcer.waiting(timedelta(seconds=1.5))
            announcer.waiting(timedelta(seconds=3))
            announcer.displaced([session_id])
            announcer.canceled(execution_id, session_id, "gründlich")
            announcer.ended([gone])
            await until(lambda: len(heard) == 6)
    assert sorted(heard) == sorted(
        [
            (b"wake", b"email"),
            (b"finished", b"".join(job_id.bytes for job_id in job_ids)),
            (b"waiting", b""),
            (b"due", b"1500"),
            (b"superseded", session_id.bytes),
            (b"canceled", execution_id.bytes + session_id.bytes + "gründlich".encode()),
        ]
    )
    await queued(redis, 1)


async def test_who_listens_for_waiters_tells_ends_only_for_some_time_after_he_has_heard_of_one(
    announcer: Announcer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcer_module, "SOMEBODY_WAITS", timedelta(0))
    announcer.heard_that_somebody_waits()
    unheard, heard = ids.job_id(), ids.job_id()
    async with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe(f"{PREFIX}:finished")
        await subscription.get_message(timeout=5.0)
        announcer.finished([unheard])
        monkeypatch.setattr(announcer_module, "SOMEBODY_WAITS", timedelta(hours=1))
        announcer.heard_that_somebody_waits()
        announcer.finished([heard])
        message = await eventually(lambda: subscription.get_message(timeout=1.0))
    assert message["data"] == heard.bytes


async def test_a_moments_break_loses_no_entry(announcer: Announcer, proxy: TcpProxy, redis: Redis) -> None:
    announcer.ready([entry()])
    await queued(redis, 1)
    for count in range(2, 6):
        proxy.cut()
        announcer.ready([entry()])
        await queued(redis, count)


async def test_what_could_not_be_said_is_said_when_redis_is_back_without_anything_new(
    announcer: Announcer, proxy: TcpProxy, redis: Redis, redis_address: str
) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe(f"{PREFIX}:finished")
        await heard.get_message(timeout=5.0)
        proxy.refuse()
        connections = proxy.connections
        job_id = ids.job_id()
        announcer.finished([job_id])
        await until(lambda: proxy.connections >= connections + 3)
        proxy.accept_again()
        message = await eventually(lambda: heard.get_message(timeout=1.0))
        assert message["data"] == job_id.bytes


async def test_nothing_that_nobody_foresaw_ends_it(redis: Redis) -> None:
    class Broken(RedisReadyQueue):
        failures = 0

        async def offer(self, entries: Sequence[ReadyEntry]) -> None:
            if entries and Broken.failures < 1:
                Broken.failures += 1
                raise KeyError("nobody foresaw this")
            await super().offer(entries)

    queue = Broken(redis, PREFIX)
    announcer = Announcer(queue, RedisSignals(redis, PREFIX))
    async with running(announcer.run()):
        announcer.ready([entry()])
        await until(lambda: Broken.failures == 1)
        announcer.ready([entry()])
        await queued(redis, 1)
        await queue.mark_complete(1)
        assert len(await queue.pop([Demand(("email",), 5)], 1)) == 1


async def test_hints_are_bounded_while_nobody_hears_them(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    monkeypatch.setattr(announcer_module, "MOST_HINTS", 10)
    announcer = Announcer(RedisReadyQueue(redis, PREFIX), RedisSignals(redis, PREFIX))
    for _ in range(30):
        announcer.ready([entry()])
    async with running(announcer.run()):
        await queued(redis, 10)
