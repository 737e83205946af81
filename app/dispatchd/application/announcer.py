"""Says after a commit what others can act on: new entries for the ready queues, wake-ups, signals.

Nothing waits for it, and everything it says can be lost: the repairer finds what is missing. What gathers while one
round trip is under way goes into the next.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

from dispatchd.application.loops import forever
from dispatchd.application.ports import HintsUnavailable, ReadyEntry, ReadyQueue, Signals
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.telemetry import metrics

MOST_HINTS = 50_000
SOMEBODY_WAITS = timedelta(seconds=3)
"""How long a gateway tells ends of jobs after it has heard that somebody waits, which is said about once a second."""
_PAUSE_S = 0.1
_log = logging.getLogger(__name__)
_Hint = TypeVar("_Hint")


class Announcer:
    """One loop (`run`), fed by the use cases of its process."""

    def __init__(self, queue: ReadyQueue, signals: Signals) -> None:
        self._queue = queue
        self._signals = signals
        self._ready: list[ReadyEntry] = []
        self._ended: list[ReadyEntry] = []
        self._finished: list[JobId] = []
        self._displaced: list[SessionId] = []
        self._canceled: list[tuple[ExecutionId, SessionId, str]] = []
        self._earliest: timedelta | None = None
        self._somebody_waits = False
        self._ends_told_until = math.inf
        self._something = asyncio.Event()

    def ready(self, entries: Iterable[ReadyEntry]) -> None:
        """These executions can start now."""
        self._add(self._ready, entries)

    def waiting(self, delay: timedelta) -> None:
        """Something becomes due in `delay`."""
        self._earliest = delay if self._earliest is None else min(self._earliest, delay)
        self._something.set()

    def finished(self, job_ids: Iterable[JobId]) -> None:
        """These jobs have ended."""
        if time.monotonic() < self._ends_told_until:
            self._add(self._finished, job_ids)

    def somebody_waits(self) -> None:
        """Ends of jobs are waited for here."""
        self._somebody_waits = True
        self._something.set()

    def heard_that_somebody_waits(self) -> None:
        """For a process that listens for it: from now on ends of jobs are told only for some time after this call."""
        self._ends_told_until = time.monotonic() + SOMEBODY_WAITS.total_seconds()

    def ended(self, entries: Iterable[ReadyEntry]) -> None:
        """These entries are in the queues for nothing."""
        self._add(self._ended, entries)

    def canceled(self, execution_id: ExecutionId, session_id: SessionId, reason: str) -> None:
        """A worker holds an execution that is no longer wanted."""
        self._add(self._canceled, [(execution_id, session_id, reason)])

    def displaced(self, session_ids: Iterable[SessionId]) -> None:
        """These sessions were taken over."""
        self._add(self._displaced, session_ids)

    def _add(self, hints: list[_Hint], new: Iterable[_Hint]) -> None:
        hints.extend(new)
        if len(hints) > MOST_HINTS:
            metrics.QUEUE_REFUSALS.labels(kind="hints").inc(len(hints) - MOST_HINTS)
            del hints[MOST_HINTS:]
        if hints:
            self._something.set()

    async def run(self) -> None:
        """Announces until cancelled."""
        await forever("announcer", self._tick)

    async def _tick(self) -> None:
        await self._something.wait()
        self._something.clear()
        try:
            await self._announce()
        except HintsUnavailable as exc:
            _log.debug("hints not announced", extra={"error": str(exc)})
            await asyncio.sleep(_PAUSE_S)
            # What was not said yet is said when Redis is back, whether something new comes or not.
            self._something.set()

    async def _announce(self) -> None:
        """Says what there is, kind by kind. What was not said yet stays, entries of the ready queues excepted."""
        ready, self._ready = self._ready, []
        await self._offer(ready)
        if self._somebody_waits:
            await self._signals.somebody_waits()
            self._somebody_waits = False
        if finished := list(self._finished):
            await self._signals.job_finished(finished)
            del self._finished[: len(finished)]
        if (earliest := self._earliest) is not None:
            await self._signals.due_earlier(earliest)
            self._earliest = None if self._earliest == earliest else self._earliest
        if displaced := list(self._displaced):
            await self._signals.superseded(displaced)
            del self._displaced[: len(displaced)]
        while self._canceled:
            await self._signals.canceled(*self._canceled[0])
            del self._canceled[0]
        if ended := list(self._ended):
            await self._queue.remove(ended)
            del self._ended[: len(ended)]

    async def _offer(self, ready: list[ReadyEntry]) -> None:
        """Tries twice: after a moment's break the entries would be missed for seconds. After a longer one they are
        left to the repairer, for most of them are taken by then."""
        try:
            await self._queue.offer(ready)
        except HintsUnavailable:
            await asyncio.sleep(_PAUSE_S)
            await self._queue.offer(ready)
