"""Ready queues: one sorted set per capability, score -priority, member = due time and execution id.

::

    <prefix>:queue:<capability>   {  -5: 00062f…19 018f…   (priority 5, due first)
                                     -5: 00062f…20 018f…
                                      0: 00062f…01 018f… }
    <prefix>:epoch                "3": the queues hold everything that is ready, for region epoch 3

The member opens with the due time in µs as 16 hexadecimal digits, so that equal scores sort by due time, then id.
(A score that packs both loses order above priority 5000: a double has 53 bits.)
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

from dispatchd.adapters.redis.connection import hints
from dispatchd.adapters.redis.scripts import read_script
from dispatchd.application.ports import Demand, HintsUnavailable, ReadyEntry
from dispatchd.domain import limits
from dispatchd.domain.ids import ExecutionId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DUE_DIGITS = 16
_MEMBER_DIGITS = _DUE_DIGITS + 32
_AT_ONCE = 2_000
"""Entries in one round trip, which has half a second."""
_LOOKED_AT_ONCE = 1_000
"""Entries in one look, which keeps everybody else from Redis for about a millisecond."""


class RedisReadyQueue:
    """Fulfils `ReadyQueue`."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._queue_prefix = f"{prefix}:queue:"
        self._marker = f"{prefix}:epoch"
        self._wake_channel = wake_channel(prefix)
        self._offer = redis.register_script(read_script("offer_ready"))
        self._pop = redis.register_script(read_script("pop_ready"))
        self._absent = redis.register_script(read_script("absent"))

    async def offer(self, entries: Sequence[ReadyEntry]) -> None:
        await self._add(entries, wakes=True)

    async def put_back(self, entries: Sequence[ReadyEntry]) -> None:
        await self._add(entries, wakes=False)

    async def _add(self, entries: Sequence[ReadyEntry], *, wakes: bool) -> None:
        for start in range(0, len(entries), _AT_ONCE):
            by_queue: dict[str, list[str | int]] = {}
            for entry in entries[start : start + _AT_ONCE]:
                by_queue.setdefault(entry.capability, []).extend((-entry.priority, _member(entry)))
            arguments: list[str | int] = [
                self._queue_prefix,
                self._wake_channel if wakes else "",
                "\n".join(by_queue),
            ]
            for capability, members in by_queue.items():
                arguments += [capability, len(members) // 2, *members]
            async with hints():
                await self._offer(keys=[], args=arguments)

    async def pop(self, demands: Sequence[Demand], epoch: int) -> list[list[ReadyEntry]]:
        popped: list[list[ReadyEntry]] = [[] for _ in demands]
        room = limits.BATCH_ITEMS
        while True:
            arguments: list[str | int] = [epoch, self._queue_prefix, room]
            for demand, entries in zip(demands, popped, strict=True):
                arguments += [demand.slots - len(entries), len(demand.capabilities), *demand.capabilities]
            async with hints():
                answer = await self._pop(keys=[self._marker], args=arguments)
            if answer is None:
                raise HintsUnavailable("the ready queues are not complete")
            strangers = 0
            for entries, taken in zip(popped, answer, strict=True):
                read = _entries(taken)
                entries += read
                room -= len(read)
                strangers += len(taken) // 3 - len(read)
            if not strangers:
                return popped
            # What was no entry is gone now, and takes nobody's place.

    async def remove(self, entries: Sequence[ReadyEntry]) -> None:
        for start in range(0, len(entries), _AT_ONCE):
            async with hints(), self._redis.pipeline(transaction=False) as pipeline:
                for entry in entries[start : start + _AT_ONCE]:
                    pipeline.zrem(self._queue_prefix + entry.capability, _member(entry))
                await pipeline.execute()

    async def absent(self, entries: Sequence[ReadyEntry]) -> list[ReadyEntry]:
        by_queue: dict[str, list[ReadyEntry]] = {}
        for entry in entries:
            by_queue.setdefault(entry.capability, []).append(entry)
        missing: list[ReadyEntry] = []
        for capability, queued in by_queue.items():
            for start in range(0, len(queued), _LOOKED_AT_ONCE):
                some = queued[start : start + _LOOKED_AT_ONCE]
                arguments: list[str | int] = [_MEMBER_DIGITS, "".join(map(_member, some))]
                async with hints():
                    places = await self._absent(keys=[self._queue_prefix + capability], args=arguments)
                missing += [some[place] for place in places]
        return missing

    async def is_complete(self, epoch: int) -> bool:
        async with hints():
            return await self._redis.get(self._marker) == str(epoch).encode()

    async def mark_complete(self, epoch: int) -> None:
        async with hints():
            await self._redis.set(self._marker, epoch)


def wake_channel(prefix: str) -> str:
    """Where `offer` says which capabilities have something new."""
    return f"{prefix}:wake"


def _member(entry: ReadyEntry) -> str:
    due_us = (entry.due_at - _EPOCH) // _MICROSECOND
    return f"{due_us:0{_DUE_DIGITS}x}{entry.execution_id.hex}"


def _entries(flat: Sequence[bytes]) -> list[ReadyEntry]:
    """Reads capability, score, member triples; what is no entry (a stranger's member) is dropped."""
    entries = []
    for capability, score, member in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        try:
            entries.append(
                ReadyEntry(
                    ExecutionId(UUID(hex=member[_DUE_DIGITS:_MEMBER_DIGITS].decode())),
                    capability.decode(),
                    -int(float(score)),
                    _EPOCH + int(member[:_DUE_DIGITS], 16) * _MICROSECOND,
                )
            )
        except (ValueError, OverflowError):
            continue
    return entries
