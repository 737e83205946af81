"""Turns at the database for workers that come and go: renewals, claims and results need its connections too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatchd.domain.errors import Unavailable

_WAIT_S = 2.0


class DatabaseTurns:
    """So many workers at a time register or leave in the database; the others wait for their turn."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One turn, which lasts as long as the block. Raises Unavailable if none is free within two seconds."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("too many workers come and go at once: connect again") from None
        try:
            yield
        finally:
            self._free.release()
