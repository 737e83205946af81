"""Waits for facts: a test that needs something to have happened asks again and again, and fails when it never does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

LONGEST_S = 15.0
_LOOK_AGAIN_S = 0.005

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], longest_s: float = LONGEST_S) -> T:
    """The first answer of `look` that is true. Raises TimeoutError."""
    async with asyncio.timeout(longest_s):
        while not (answer := await look()):  # noqa: ASYNC110  (the fact is elsewhere, nothing here can set an event)
            await asyncio.sleep(_LOOK_AGAIN_S)
        return answer


async def until(is_so: Callable[[], bool], longest_s: float = LONGEST_S) -> None:
    """Returns when `is_so` is true. Raises TimeoutError."""
    async with asyncio.timeout(longest_s):
        while not is_so():  # noqa: ASYNC110  (as above)
            await asyncio.sleep(_LOOK_AGAIN_S)


async def until_waiting(session: "asyncpg.Connection[asyncpg.Record]", count: int = 1) -> None:
    """Returns when `count` other sessions of this database wait for a lock."""

    async def look() -> bool:
        # A transaction would see what it saw at its first look.
        await session.execute("select pg_stat_clear_snapshot()")
        waiting = await session.fetchval(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()"
        )
        return bool(waiting >= count)

    await eventually(look)


async def until_done(task: "asyncio.Future[T]", longest_s: float = LONGEST_S) -> T:
    """The task's result. Raises TimeoutError."""
    async with asyncio.timeout(longest_s):
        return await task
