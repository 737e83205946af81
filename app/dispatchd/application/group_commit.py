"""Group commit: many callers, one transaction, each caller gets its own answer.

::

    callers ──put──▶ queue (bounded in items and bytes) ──▶ flusher ──▶ one transaction of ≤ 256 items, ≤ 4 MiB
                                                               │
       a lone item, or one of few callers, is flushed at once; when more wait, the flusher gathers for at most 2 ms,
       until as many are in as callers were known when the last batch ended (those it answered are about to come
       back), or a multiple of them where more come than a busy process has seen
                                                               │
       a batch that the database refuses is halved until the guilty item stands alone
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from dispatchd.application.ports import BatchRejected, NotPermitted, TransientConflict
from dispatchd.domain import limits
from dispatchd.domain.errors import DispatchdError, InvalidRequest, Overloaded, Unavailable
from dispatchd.telemetry import metrics

Item = TypeVar("Item")
Answer = TypeVar("Answer")

GATHER = timedelta(milliseconds=2)
FEW = 4
"""So few callers are not waited for: a batch of them saves less than the wait costs."""
QUEUE_WAIT = timedelta(seconds=2)
ANSWER_WAIT = timedelta(seconds=2)
STALE_AFTER = 0.75
"""Of the time that an item may wait. What waited longer in the queue is not begun, so that every transaction that is
begun has time to end, however long the queue."""
CONFLICT_TRIES = 3
_log = logging.getLogger(__name__)

Execute = Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]
"""Runs one transaction; answers in the order of the items."""

Known = Callable[["Sequence[Answer | Exception]"], None]
"""Takes the answers of the next items as soon as they are known."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    size_bytes: int
    answer: asyncio.Future[Answer]
    since: float
    """When it was queued, by the loop's clock, in seconds."""

    def give(self, answer: "Answer | Exception") -> None:
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            # Without the frames it came through: they hold every item of the batch, for as long as one caller lives.
            self.answer.set_exception(answer.with_traceback(None))
        else:
            self.answer.set_result(answer)


class GroupCommit(Generic[Item, Answer]):
    """One flusher for one kind of item. `run()` is its loop, a child of the role's TaskGroup.

    An item waits at most 2 s for its answer, from the moment it is queued; then it is told Unavailable. Whether it was
    done is unclear then, unless it never left the queue.
    """

    def __init__(
        self,
        kind: str,
        execute: "Execute[Item, Answer]",
        *,
        most_items: int,
        most_bytes: int,
        callers_for_each_known: int = 1,
    ) -> None:
        self._kind = kind
        self._callers_for_each_known = callers_for_each_known
        self._execute = execute
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._queue: deque[_Waiting[Item, Answer]] = deque()
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._callers = 0
        """How many were waiting or just answered when the last batch ended."""
        self._wanted = 0
        self._enough = asyncio.Event()
        self._batch_size = metrics.GROUP_COMMIT_BATCH_SIZE.labels(kind=kind)
        self._duration = metrics.GROUP_COMMIT_DURATION.labels(kind=kind)
        self._items_gauge = metrics.QUEUE_ITEMS.labels(kind=kind)
        self._bytes_gauge = metrics.QUEUE_BYTES.labels(kind=kind)

    async def put(self, item: Item, size_bytes: int) -> Answer:
        """Waits for the item's transaction and returns its answer.

        Raises Overloaded if the queue stays full for 2 s, and what the transaction raises for this item.
        """
        return await (await self.reserve(item, size_bytes))

    async def reserve(self, item: Item, size_bytes: int) -> asyncio.Future[Answer]:
        """Waits only until the item is queued; the future is its answer. Raises Overloaded as `put` does."""
        if not self._has_room(size_bytes):
            try:
                async with asyncio.timeout(QUEUE_WAIT.total_seconds()):
                    await self.room(size_bytes)
            except TimeoutError:
                metrics.QUEUE_REFUSALS.labels(kind=self._kind).inc()
                raise Overloaded(f"the {self._kind} queue is full") from None
        return self.enqueue_now(item, size_bytes)

    async def room(self, size_bytes: int) -> None:
        """Waits until the queue takes an item of this size; returns without a turn of the loop if it does now."""
        while not self._has_room(size_bytes):
            self._room.clear()
            await self._room.wait()

    def enqueue_now(self, item: Item, size_bytes: int) -> asyncio.Future[Answer]:
        """Queues without waiting, for callers who bound themselves; the future is the answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(_Waiting(item, size_bytes, answer, loop.time()))
        self._queued_bytes += size_bytes
        self._arrived.set()
        if len(self._queue) >= self._wanted:
            self._enough.set()
        return answer

    def _has_room(self, size_bytes: int) -> bool:
        return not self._queue or (
            len(self._queue) < self._most_items and self._queued_bytes + size_bytes <= self._most_bytes
        )

    async def run(self) -> None:
        """Flushes until cancelled; then everything that still waits is told UNAVAILABLE."""
        batch: list[_Waiting[Item, Answer]] = []
        try:
            while True:
                await self._arrived.wait()
                await self._gather()
                batch = self._take()
                if batch:
                    await self._flush(batch)
        finally:
            for waiting in (*batch, *self._queue):
                waiting.give(Unavailable("the server is stopping: try again"))
            self._queue.clear()

    async def _gather(self) -> None:
        if len(self._queue) < 2:
            await asyncio.sleep(0)
        if len(self._queue) < 2:
            return
        self._wanted = min(self._callers_for_each_known * self._callers, limits.BATCH_ITEMS)
        if self._callers <= FEW or len(self._queue) >= self._wanted:
            return
        self._enough.clear()
        try:
            async with asyncio.timeout(GATHER.total_seconds()):
                await self._enough.wait()
        except TimeoutError:
            pass

    def _take(self) -> "list[_Waiting[Item, Answer]]":
        batch: list[_Waiting[Item, Answer]] = []
        size = 0
        stale_before = asyncio.get_running_loop().time() - ANSWER_WAIT.total_seconds() * STALE_AFTER
        while self._queue and len(batch) < limits.BATCH_ITEMS:
            if batch and size + self._queue[0].size_bytes > limits.BATCH_BYTES:
                break
            waiting = self._queue.popleft()
            self._queued_bytes -= waiting.size_bytes
            if waiting.answer.done():
                continue
            if waiting.since < stale_before:
                waiting.answer.set_exception(Unavailable("it waited too long and was not done: send it again"))
                continue
            size += waiting.size_bytes
            batch.append(waiting)
        self._room.set()
        if not self._queue:
            self._arrived.clear()
        self._items_gauge.set(len(self._queue))
        self._bytes_gauge.set(self._queued_bytes)
        return batch

    async def _flush(self, batch: "list[_Waiting[Item, Answer]]") -> None:
        started = time.perf_counter()
        self._batch_size.observe(len(batch))
        unanswered = deque(batch)

        def known(answers: Sequence[Answer | Exception]) -> None:
            for answer in answers:
                unanswered.popleft().give(answer)

        try:
            async with asyncio.timeout_at(batch[0].since + ANSWER_WAIT.total_seconds()):
                await _isolate([waiting.item for waiting in batch], self._execute, known, CONFLICT_TRIES)
        except TimeoutError:
            late = Unavailable("the database did not answer in time; it may have been done: send it again")
            known([late] * len(unanswered))
        self._duration.observe(time.perf_counter() - started)
        self._callers = len(batch) + len(self._queue)


async def execute_isolated(items: Sequence[Item], execute: "Execute[Item, Answer]") -> "Sequence[Answer | Exception]":
    """Runs a batch; a conflict is tried again whole, a refusal splits the batch until the guilty item stands alone.
    A conflict that lasts (somebody holds a lock on one row) splits it too, so that the others need not wait.

    The answer of an item is an exception where it alone is at fault, or where the database is away.
    """
    answers: list[Answer | Exception] = []
    await _isolate(items, execute, answers.extend, CONFLICT_TRIES)
    return answers


async def _isolate(items: Sequence[Item], execute: "Execute[Item, Answer]", known: "Known[Answer]", tries: int) -> None:
    try:
        answers = await _with_tries(items, execute, tries)
    except (BatchRejected, TransientConflict) as exc:
        if len(items) == 1:
            known([_refusal(exc) if isinstance(exc, BatchRejected) else exc])
            return
        # A conflict that outlasted the tries of the whole is met once by each part that has it.
        tries = 1 if isinstance(exc, TransientConflict) else tries
        middle = len(items) // 2
        await _isolate(items[:middle], execute, known, tries)
        await _isolate(items[middle:], execute, known, tries)
    except (DispatchdError, NotPermitted) as exc:
        known([exc] * len(items))
    except Exception:
        _log.exception("a batch failed")
        known([Unavailable("the server failed; its log says more")] * len(items))
    else:
        known(answers)


async def _with_tries(items: Sequence[Item], execute: "Execute[Item, Answer]", tries: int) -> Sequence[Answer]:
    for _ in range(tries - 1):
        try:
            return await execute(items)
        except TransientConflict:
            await asyncio.sleep(0)
    return await execute(items)


def _refusal(exc: BatchRejected) -> DispatchdError:
    if exc.is_fault_of_the_item:
        return InvalidRequest("", f"{exc}: a value is outside what can be stored")
    return Unavailable(str(exc))
