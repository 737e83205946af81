"""WaitJob: callers wait for the end of a job without polling.

::

    waiters ──▶ {job id: futures} ◀── "finished" signals (Redis), sent while somebody says that he waits
                      │
                      ├── one shared query a second for all waited ids: 1,000 waiters cost no more than one
                      └── one at once for new waiters, whose job may have ended already; who comes while it is
                          under way goes into the next
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from dispatchd.application.loops import every, forever
from dispatchd.application.ports import JobStore
from dispatchd.domain.errors import Overloaded
from dispatchd.domain.ids import JobId
from dispatchd.domain.views import JobView
from dispatchd.telemetry import metrics

DEFAULT_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(seconds=60)
ANSWER_BEFORE_DEADLINE = timedelta(milliseconds=200)
LOOK_EVERY = timedelta(seconds=1)
SAY_EVERY = timedelta(seconds=1)


class WaitJob:
    """`run()` looks for all who wait; `finished` takes the signals of completing commits."""

    def __init__(self, store: JobStore, say_that_somebody_waits: Callable[[], None], *, most_waiters: int) -> None:
        self._store = store
        self._say_that_somebody_waits = say_that_somebody_waits
        self._said_at = -math.inf
        self._most_waiters = most_waiters
        self._waiters: dict[JobId, set[asyncio.Future[None]]] = {}
        self._count = 0
        self._new: set[JobId] = set()
        self._has_new = asyncio.Event()

    async def wait(self, job_id: JobId, wait: timedelta, time_remaining: timedelta | None) -> JobView:
        """The job as it is when it ends, or after `wait` (at most 60 s), or 200 ms before the caller's deadline.

        Raises JobNotFound, and Overloaded above the bound on waiters.
        """
        if self._count >= self._most_waiters:
            raise Overloaded(f"{self._most_waiters} calls wait already")
        longest = min(max(wait, timedelta(0)), LONGEST_WAIT)
        if time_remaining is not None:
            longest = min(longest, max(time_remaining - ANSWER_BEFORE_DEADLINE, timedelta(0)))
        ended = self._add(job_id)
        try:
            async with asyncio.timeout(longest.total_seconds()):
                await ended
        except TimeoutError:
            pass
        finally:
            self._remove(job_id, ended)
        return await self._store.get(job_id)

    def _add(self, job_id: JobId) -> asyncio.Future[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(ended)
        self._count += 1
        metrics.WAITERS.set(self._count)
        self._new.add(job_id)
        self._has_new.set()
        self._say()
        return ended

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_EVERY.total_seconds():
            self._said_at = now
            self._say_that_somebody_waits()

    def _remove(self, job_id: JobId, ended: asyncio.Future[None]) -> None:
        futures = self._waiters.get(job_id, set())
        futures.discard(ended)
        if not futures:
            self._waiters.pop(job_id, None)
        self._count -= 1
        metrics.WAITERS.set(self._count)

    def finished(self, job_ids: Iterable[JobId]) -> None:
        """Wakes who waits for these jobs."""
        for job_id in job_ids:
            for ended in self._waiters.get(job_id, ()):
                if not ended.done():
                    ended.set_result(None)

    def release_all(self) -> None:
        """The server stops: everybody is answered with the job as it is."""
        self.finished(list(self._waiters))

    async def run(self) -> None:
        """Looks for ended jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(forever("wait_job_new", self._look_for_new), name="wait_job_new")
            group.create_task(every(LOOK_EVERY, "wait_job", self._look_for_all), name="wait_job")

    async def _look_for_new(self) -> None:
        await self._has_new.wait()
        self._has_new.clear()
        new, self._new = self._new, set()
        self.finished(await self._store.finished_among(list(new)))

    async def _look_for_all(self) -> None:
        if self._waiters:
            self._say()
            self.finished(await self._store.finished_among(list(self._waiters)))
