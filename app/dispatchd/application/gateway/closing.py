"""What is still to be done for streams that are gone, without anybody waiting for it: the database is told."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.gateway.turns import DatabaseTurns
from dispatchd.application.ports import SessionStore
from dispatchd.application.region_watch import RegionWatch
from dispatchd.domain.errors import DispatchdError

_MOST_UNCLEAR = 1_000
_UNCLEAR_S = 3.0
"""Longer than the database works on a statement: what was unclear is settled by then."""

_log = logging.getLogger(__name__)


class StreamCloser:
    """Knows what is under way for streams that are gone."""

    def __init__(self, store: SessionStore, region: RegionWatch, turns: DatabaseTurns) -> None:
        self._store = store
        self._region = region
        self._turns = turns
        self._under_way: set[asyncio.Task[None]] = set()

    def closed(self, session: WorkerSession) -> "asyncio.Task[None]":
        """Tells the database that this session has no stream any more."""
        return self.later(self._note(session))

    def unclear(self, session: WorkerSession) -> None:
        """The same for a session whose registration may stand in the database, now or in a moment: without a stream it
        must not look like an open one. What would be too much at once is left to the end of the lease."""
        if len(self._under_way) < _MOST_UNCLEAR:
            self.later(self._note_surely(session))

    def later(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Does something that `all_done` waits for."""
        task = asyncio.create_task(work, name="closing")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def all_done(self, longest: timedelta) -> None:
        """Waits until nothing is under way, but no longer than this; what is then left is cancelled."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=longest.total_seconds())
        for task in self._under_way:
            task.cancel()

    async def _note_surely(self, session: WorkerSession) -> None:
        await self._note(session)
        await asyncio.sleep(_UNCLEAR_S)
        await self._note(session)

    async def _note(self, session: WorkerSession) -> None:
        try:
            async with self._turns.turn():
                await self._store.close([session.session_id], self._region.fence)
        except DispatchdError as exc:
            _log.info("a closed stream could not be noted: %s", exc, extra={"worker_id": session.worker_id})
