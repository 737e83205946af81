"""Slow senders and readers: what is ended, what is refused, and what is left alone."""

import asyncio
import time

import pytest

from dispatchd.adapters.grpc.call import CHANGES
from dispatchd.adapters.grpc.slow_peers import (
    CALLER_UNREAD_BYTES,
    LONGEST_ARRIVAL,
    MOST_SLOW,
    SLOW_AFTER,
    SMALL_ANSWER_BYTES,
    UNREAD_BYTES,
    Arrivals,
    UnreadAnswers,
)
from dispatchd.domain.access import METHODS, AccessRole
from dispatchd.domain.errors import Overloaded

SLOW_S, LONGEST_S = SLOW_AFTER.total_seconds(), LONGEST_ARRIVAL.total_seconds()
LARGE = 4 * 1024 * 1024


class Waiting:
    """Calls whose messages have not arrived."""

    def __init__(self, arrivals: Arrivals, number: int) -> None:
        self.messages: list[asyncio.Future[bytes | None]] = [asyncio.Future() for _ in range(number)]
        self.calls = [asyncio.create_task(arrivals.message(message)) for message in self.messages]

    async def refused(self) -> list[bool]:
        """Which of them, in the order of their beginning."""
        await asyncio.sleep(0)
        return [call.done() and isinstance(call.exception(), Overloaded) for call in self.calls]


async def begun(arrivals: Arrivals, number: int = 1) -> Waiting:
    waiting = Waiting(arrivals, number)
    await asyncio.sleep(0)
    return waiting


async def test_a_message_that_arrives_is_given_on() -> None:
    arrivals = Arrivals()
    waiting = await begun(arrivals, 2)
    waiting.messages[0].set_result(b"hello")
    waiting.messages[1].set_result(None)
    assert await asyncio.gather(*waiting.calls) == [b"hello", None]
    arrivals.end_slow(time.monotonic() + 2 * LONGEST_S)


async def test_a_message_that_does_not_arrive_is_not_waited_for_without_end() -> None:
    arrivals = Arrivals()
    waiting = await begun(arrivals)
    arrivals.end_slow(time.monotonic() + LONGEST_S - 1)
    assert await waiting.refused() == [False]
    arrivals.end_slow(time.monotonic() + LONGEST_S + 1)
    assert await waiting.refused() == [True]


async def test_of_many_slow_ones_the_oldest_go() -> None:
    arrivals = Arrivals()
    waiting = await begun(arrivals, MOST_SLOW + 3)
    arrivals.end_slow(time.monotonic() + SLOW_S + 1)
    assert await waiting.refused() == [True] * 3 + [False] * MOST_SLOW


async def test_any_number_may_be_on_its_way_for_a_moment() -> None:
    arrivals = Arrivals()
    waiting = await begun(arrivals, 3 * MOST_SLOW)
    arrivals.end_slow(time.monotonic() + SLOW_S - 1)
    assert not any(await waiting.refused())


async def test_who_has_gone_is_not_answered_even_if_he_was_too_slow_as_well() -> None:
    arrivals = Arrivals()
    waiting = await begun(arrivals)
    arrivals.end_slow(time.monotonic() + LONGEST_S + 1)
    waiting.calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.calls[0]


async def test_the_task_of_a_refused_call_goes_on() -> None:
    arrivals = Arrivals()

    async def call() -> str:
        with pytest.raises(Overloaded):
            await arrivals.message(asyncio.Future())
        await asyncio.sleep(0)
        return "answered"

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    arrivals.end_slow(time.monotonic() + LONGEST_S + 1)
    assert await task == "answered"


class Unread:
    """Calls whose answers nobody reads until `read` is set."""

    def __init__(self) -> None:
        self.answers = UnreadAnswers()
        self.read = asyncio.Event()

    async def call(self, size: int, subject: str | None = None, *, is_late: bool = False) -> None:
        self.answers.hold(size, subject, is_late=is_late)
        await self.read.wait()

    async def held(self, number: int, size: int, subject: str | None = None) -> "list[asyncio.Task[None]]":
        tasks = [asyncio.create_task(self.call(size, subject)) for _ in range(number)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        return tasks


async def test_large_answers_that_nobody_reads_are_bounded() -> None:
    unread = Unread()
    held = await unread.held(UNREAD_BYTES // LARGE, LARGE)
    with pytest.raises(Overloaded, match="too many of all large answers wait to be read"):
        await unread.call(LARGE)
    unread.answers.hold(SMALL_ANSWER_BYTES, None, is_late=False)
    unread.read.set()
    await asyncio.gather(*held)
    await asyncio.sleep(0)
    await unread.call(LARGE)


async def test_one_caller_who_never_reads_leaves_room_for_others() -> None:
    unread = Unread()
    held = await unread.held(CALLER_UNREAD_BYTES // LARGE, LARGE, "mallory")
    with pytest.raises(Overloaded, match="too many of your large answers"):
        await unread.call(LARGE, "mallory")
    held += await unread.held(1, LARGE, "ann")
    unread.read.set()
    await asyncio.gather(*held)
    await asyncio.sleep(0)
    await unread.call(LARGE, "mallory")


async def test_what_is_done_is_never_denied() -> None:
    unread = Unread()
    held = await unread.held(CALLER_UNREAD_BYTES // LARGE, LARGE, "mallory")
    held.append(asyncio.create_task(unread.call(LARGE, "mallory", is_late=True)))
    await asyncio.sleep(0)
    assert not held[-1].done()
    unread.read.set()
    await asyncio.gather(*held)


def test_every_method_that_changes_something_is_known_as_such() -> None:
    changes = {method for method, roles in METHODS.items() if AccessRole.VIEWER not in roles}
    assert changes - {"WorkerService.Connect"} == CHANGES
