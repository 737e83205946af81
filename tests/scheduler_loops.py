"""The scheduler's loops, each on its own, over the real stores and a real leader lock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from dispatchd.adapters.redis.leader_lock import RedisLeaderLock
from dispatchd.adapters.redis.signals import listen
from dispatchd.application.scheduler.due_queuer import DueQueuer
from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.application.scheduler.lease_reaper import LeaseReaper
from dispatchd.application.scheduler.ready_queue_repairer import ReadyQueueRepairer
from stores import Stores, ids, redis_at, running

LEADER_KEY = "test:scheduler:leader:local"
HOUR = timedelta(hours=1)


@asynccontextmanager
async def leadership_at(redis_address: str) -> AsyncIterator[Leadership]:
    """Competes for the lock; without a Redis at the address it acts without."""
    async with redis_at(redis_address) as redis:
        leadership = Leadership(RedisLeaderLock(redis, LEADER_KEY, ids.session_id().hex))
        async with running(leadership.run()):
            yield leadership


@asynccontextmanager
async def queuing(stores: Stores, redis_address: str, *, longest_sleep: timedelta = HOUR) -> AsyncIterator[DueQueuer]:
    """Runs the queuer of due executions, which hears what other processes say."""
    async with redis_at(redis_address) as redis, leadership_at(redis_address) as leadership:
        queuer = DueQueuer(stores.recovery, stores.announcer, stores.region, leadership, longest_sleep)

        def due_earlier(message: bytes) -> None:
            queuer.due_in(timedelta(milliseconds=int(message)))

        hears = listen(redis, {stores.signals.due: due_earlier}, queuer.look_now)
        async with running(queuer.run(), stores.announcer.run(), hears):
            yield queuer


@asynccontextmanager
async def reaping(
    stores: Stores,
    redis_address: str,
    *,
    lease: timedelta,
    longest_sleep: timedelta = timedelta(seconds=2),
    last_database_failure: Callable[[], float | None] = lambda: None,
) -> AsyncIterator[None]:
    """Runs the reaper."""
    async with leadership_at(redis_address) as leadership:
        reaper = LeaseReaper(
            stores.recovery,
            stores.settler,
            stores.region,
            leadership,
            lease=lease,
            longest_sleep=longest_sleep,
            last_database_failure=last_database_failure,
        )
        async with running(reaper.run(), stores.announcer.run()):
            yield


@asynccontextmanager
async def repairing(stores: Stores, redis_address: str) -> AsyncIterator[None]:
    """Runs the repairer of the ready queues."""
    async with leadership_at(redis_address) as leadership:
        repairer = ReadyQueueRepairer(stores.recovery, stores.queue, stores.region, leadership)
        async with running(repairer.run()):
            yield
