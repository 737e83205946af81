"""Says after a commit what others can act on: new entries for the ready queues, wake-ups, signals.

Nothing waits for it, and everything it says can be lost: the repairer finds what is missing. What gathers while one
round trip is under way goes into the next.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

from dispatchd.application.ports import HintsUnavailable, ReadyEntry, ReadyQueue, Signals
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.telemetry import metrics

MOST_HINTS = 50_000
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
        self._add(self._finished, job_ids)

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
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                await self._announce()
            except HintsUnavailable as exc:
                _log.debug("hints not announced", extra={"error": str(exc)})
                await asyncio.sleep(_PAUSE_S)

    async def _announce(self) -> None:
        ready, self._ready = self._ready, []
        await self._queue.offer(ready)
        if self._finished:
            finished, self._finished = self._finished, []
            await self._signals.job_finished(finished)
        if self._earliest is not None:
            earliest, self._earliest = self._earliest, None
            await self._signals.due_earlier(earliest)
        if self._displaced:
            displaced, self._displaced = self._displaced, []
            await self._signals.superseded(displaced)
        canceled, self._canceled = self._canceled, []
        for execution_id, session_id, reason in canceled:
            await self._signals.canceled(execution_id, session_id, reason)
        if self._ended:
            ended, self._ended = self._ended, []
            await self._queue.remove(ended)
