"""The leader lock of a region: 2 s, renewed every 0.5 s, taken, kept and released atomically by its owner."""

from datetime import timedelta

from redis.asyncio import Redis

from dispatchd.adapters.redis.connection import hints
from dispatchd.adapters.redis.scripts import read_script

LOCK_LIFETIME = timedelta(seconds=2)


class RedisLeaderLock:
    """Fulfils `LeaderLock`. `owner` is unique to the process, not only to its name."""

    def __init__(self, redis: Redis, key: str, owner: str) -> None:
        self._key = key
        self._owner = owner
        self._lead = redis.register_script(read_script("lead"))
        self._release = redis.register_script(read_script("release"))

    async def acquire_or_renew(self) -> bool:
        async with hints():
            return bool(
                await self._lead(keys=[self._key], args=[self._owner, round(LOCK_LIFETIME.total_seconds() * 1000)])
            )

    async def release(self) -> None:
        async with hints():
            await self._release(keys=[self._key], args=[self._owner])
