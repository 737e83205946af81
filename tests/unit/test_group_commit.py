"""Group commit: many callers, one transaction, an answer for each; what is bounded, and what happens at the bounds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from dispatchd.application import group_commit
from dispatchd.application.group_commit import GroupCommit, execute_isolated
from dispatchd.application.ports import BatchRejected, DatabaseUnavailable, NotPermitted, TransientConflict
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest, Overloaded, Unavailable
from waiting import until

Batch = Sequence[int]
Commits = GroupCommit[int, int]


class Transactions:
    """Runs batches: each begins, is held while `held` is set, and then answers every item with its tenfold."""

    def __init__(self) -> None:
        self.begun: list[list[int]] = []
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.guilty: dict[int, Exception] = {}

    async def __call__(self, batch: Batch) -> list[int]:
        self.begun.append(list(batch))
        await self.let_go.wait()
        for item in batch:
            if item in self.guilty:
                raise self.guilty[item]
        return [10 * item for item in batch]


@asynccontextmanager
async def running(
    execute: Callable[[Batch], Awaitable[list[int]]],
    *,
    most_items: int = 1_000,
    most_bytes: int = 2**26,
    callers_for_each_known: int = 1,
) -> AsyncIterator[Commits]:
    commits: Commits = GroupCommit(
        "test",
        execute,
        most_items=most_items,
        most_bytes=most_bytes,
        callers_for_each_known=callers_for_each_known,
    )
    loop = asyncio.create_task(commits.run())
    try:
        yield commits
    finally:
        loop.cancel()
        await asyncio.wait({loop})


def put(commits: Commits, *items: int, size_bytes: int = 1) -> "list[asyncio.Task[int]]":
    return [asyncio.create_task(commits.put(item, size_bytes)) for item in items]


async def answers(calls: "Sequence[asyncio.Task[int]]") -> list[int | BaseException]:
    async with asyncio.timeout(10.0):
        return await asyncio.gather(*calls, return_exceptions=True)


async def test_what_waits_while_a_transaction_runs_goes_into_the_next() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run) as commits:
        calls = put(commits, 1)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, *range(2, 101))
        await asyncio.sleep(0)
        run.let_go.set()
        assert await answers(calls) == [10 * item for item in range(1, 101)]
    assert run.begun == [[1], list(range(2, 101))]


async def test_a_lone_call_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER", timedelta(hours=1))
    run = Transactions()
    async with running(run) as commits:
        for item in range(5):
            assert await answers(put(commits, item)) == [10 * item]


async def test_callers_that_are_about_to_come_back_are_waited_for_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Transactions()
    async with running(run) as commits:
        await answers(put(commits, *range(8)))
        # Six of the eight come back, one after the other; the others do not, and they need not wait for them.
        calls = put(commits, *range(10, 15))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calls += put(commits, 15)
        assert await answers(calls) == [100, 110, 120, 130, 140, 150]
        assert run.begun[-1] == [10, 11, 12, 13, 14, 15]
        # Whoever completes the number that is waited for starts the transaction at once.
        monkeypatch.setattr(group_commit, "GATHER", timedelta(hours=1))
        assert await answers(put(commits, *range(20, 26))) == [200, 210, 220, 230, 240, 250]


async def test_more_callers_than_are_known_may_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER", timedelta(hours=1))
    run = Transactions()
    async with running(run, callers_for_each_known=2) as commits:
        await answers(put(commits, *range(8)))
        calls = put(commits, *range(10, 20))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calls += put(commits, *range(20, 26))
        assert await answers(calls) == [10 * item for item in range(10, 26)]
        assert len(run.begun[-1]) == 16


async def test_few_callers_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "GATHER", timedelta(hours=1))
    run = Transactions()
    async with running(run) as commits:
        await answers(put(commits, *range(group_commit.FEW)))
        assert await answers(put(commits, 10, 11)) == [100, 110]
        assert run.begun[-1] == [10, 11]


async def test_a_transaction_has_at_most_256_items_and_4_mib() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run, most_items=10_000) as commits:
        calls = put(commits, -1)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, *range(600))
        calls += put(commits, *range(600, 605), size_bytes=limits.BATCH_BYTES // 2)
        calls += put(commits, 605, size_bytes=2 * limits.BATCH_BYTES)
        await asyncio.sleep(0)
        run.let_go.set()
        assert await answers(calls) == [-10, *(10 * item for item in range(606))]
    assert [len(batch) for batch in run.begun] == [1, 256, 256, 89, 2, 2, 1]


@pytest.mark.parametrize("bound", [{"most_items": 3}, {"most_bytes": 3}])
async def test_a_full_queue_waits_and_then_refuses_with_the_time_to_try_again(
    bound: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_WAIT", timedelta(seconds=0.05))
    run = Transactions()
    run.let_go.clear()
    async with running(run, **bound) as commits:
        first = put(commits, 0)
        await until(lambda: len(run.begun) == 1)
        waiting = put(commits, 1, 2, 3)
        [refused] = await answers(put(commits, 4))
        assert isinstance(refused, Overloaded)
        assert refused.retry_after == timedelta(seconds=1)
        run.let_go.set()
        assert await answers(first + waiting) == [0, 10, 20, 30]


async def test_whoever_waits_for_room_gets_it_when_a_batch_is_taken() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run, most_items=2) as commits:
        calls = put(commits, 0)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, *range(1, 20))
        await asyncio.sleep(0)
        run.let_go.set()
        assert await answers(calls) == [10 * item for item in range(20)]


async def test_whoever_waits_for_room_gets_it_when_the_queued_have_gone() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run, most_items=3) as commits:
        first = put(commits, 0)
        await until(lambda: len(run.begun) == 1)
        gone = put(commits, 1, 2, 3)
        await asyncio.sleep(0)
        waits = put(commits, 4)
        await asyncio.sleep(0)
        for call in gone:
            call.cancel()
        run.let_go.set()
        assert await answers(first + waits) == [0, 40]
    assert run.begun == [[0], [4]]


async def test_a_caller_who_has_gone_is_not_written() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run) as commits:
        first = put(commits, 0)
        await until(lambda: len(run.begun) == 1)
        gone, stays = put(commits, 1, 2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        run.let_go.set()
        assert await answers([*first, stays]) == [0, 20]
    assert run.begun == [[0], [2]]


async def test_a_database_that_does_not_answer_is_unavailable_for_everybody_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "ANSWER_WAIT", timedelta(seconds=0.3))
    run = Transactions()
    run.let_go.clear()
    loop = asyncio.get_running_loop()
    async with running(run) as commits:
        started = loop.time()
        calls = put(commits, 1)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, *range(2, 600))
        assert {type(answer) for answer in await answers(calls)} == {Unavailable}
        assert loop.time() - started < 1.0
        run.let_go.set()
        assert await answers(put(commits, 7)) == [70]


async def test_a_long_queue_before_a_sound_database_is_no_reason_to_break_off_transactions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "ANSWER_WAIT", timedelta(seconds=1.2))
    monkeypatch.setattr(limits, "BATCH_ITEMS", 8)
    broken_off = 0
    done: set[int] = set()

    async def slow(batch: Batch) -> list[int]:
        nonlocal broken_off
        try:
            await asyncio.sleep(0.04)
        except asyncio.CancelledError:
            broken_off += 1
            raise
        done.update(batch)
        return [10 * item for item in batch]

    async with running(slow, most_items=20_000) as commits:
        # Three times as much as can be done in the time.
        got = await answers(put(commits, *range(8 * 80)))
    assert broken_off == 0
    assert [answer for answer in got if isinstance(answer, int)] == [10 * item for item in sorted(done)]
    assert len(done) >= 8 * 10
    assert {type(answer) for answer in got} == {int, Unavailable}


async def test_when_it_stops_everybody_who_still_waits_is_told() -> None:
    run = Transactions()
    run.let_go.clear()
    async with running(run) as commits:
        calls = put(commits, 1)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, 2, 3)
        await asyncio.sleep(0)
    assert {type(answer) for answer in await answers(calls)} == {Unavailable}


async def test_the_loop_outlives_a_batch_that_fails_in_a_way_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    run = Transactions()
    run.guilty[1] = KeyError("nobody foresaw this")
    async with running(run) as commits:
        [answer] = await answers(put(commits, 1))
        assert isinstance(answer, Unavailable)
        assert "nobody foresaw this" not in str(answer)
        assert await answers(put(commits, 2)) == [20]
    assert "nobody foresaw this" in caplog.text


# --- one bad item ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guilty", [0, 255])
@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [("23514", InvalidRequest), ("54000", InvalidRequest), ("P0001", InvalidRequest), ("XX000", Unavailable)],
)
async def test_only_the_guilty_item_of_256_is_refused(guilty: int, sqlstate: str, kind: type[Exception]) -> None:
    run = Transactions()
    run.guilty[guilty] = BatchRejected(f"refused (SQLSTATE {sqlstate})", sqlstate)
    got = await execute_isolated(range(256), run)
    assert [item for item, answer in enumerate(got) if answer != 10 * item] == [guilty]
    assert type(got[guilty]) is kind
    assert len(run.begun) <= 2 * 9


async def test_a_conflict_is_tried_again_whole() -> None:
    run = Transactions()
    run.guilty[3] = TransientConflict("dead-lock")

    async def passes_the_third_time(batch: Batch) -> list[int]:
        if len(run.begun) == 2:
            run.guilty.clear()
        return await run(batch)

    assert await execute_isolated(range(8), passes_the_third_time) == [10 * item for item in range(8)]
    assert run.begun == [list(range(8))] * 3


async def test_a_conflict_that_lasts_is_the_answer_of_its_item_alone() -> None:
    run = Transactions()
    run.guilty[100] = TransientConflict("somebody holds the row")
    got = await execute_isolated(range(256), run)
    assert [item for item, answer in enumerate(got) if answer != 10 * item] == [100]
    # Each try may wait for the lock until it gives up, so they are few.
    assert len([batch for batch in run.begun if 100 in batch]) <= 11


async def test_a_conflict_that_lasts_longer_than_callers_wait_is_the_answer_of_the_unanswered_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "ANSWER_WAIT", timedelta(seconds=0.5))
    run = Transactions()

    async def waits_for_the_last(batch: Batch) -> list[int]:
        answers = await run(batch)
        if 255 in batch:
            await asyncio.sleep(0.08)
            raise TransientConflict("somebody holds the row")
        return answers

    run.let_go.clear()
    async with running(waits_for_the_last) as commits:
        calls = put(commits, -1)
        await until(lambda: len(run.begun) == 1)
        calls += put(commits, *range(256))
        await asyncio.sleep(0)
        run.let_go.set()
        got = (await answers(calls))[1:]
    # Whatever was committed is acknowledged.
    done = {item for item, answer in enumerate(got) if answer == 10 * item}
    assert done >= set(range(128))
    assert isinstance(got[255], Unavailable)


@pytest.mark.parametrize("why", [DatabaseUnavailable("away"), NotPermitted()])
async def test_what_concerns_everybody_is_answered_to_everybody_without_splitting(why: Exception) -> None:
    run = Transactions()
    run.guilty[3] = why
    assert await execute_isolated(range(256), run) == [why] * 256
    assert len(run.begun) == 1
