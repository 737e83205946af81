"""Reports of many kinds in one batch: each gets its own answer, whatever failed on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from dispatchd.application.gateway.messages import Outcome
from dispatchd.application.gateway.reports import ReportCollector, Reported
from dispatchd.application.ports import ClaimedExecution, NotPermitted, Reporter, TransientConflict
from dispatchd.domain.ids import ExecutionId
from dispatchd.domain.job import JobStatus
from dispatchd.domain.settlement import Ending, Failed, Returned, Succeeded
from stores import Hands, Stores, ids, insert, new_job, open_stores, register, running, sql
from waiting import until_done

Session = asyncpg.Connection


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@asynccontextmanager
async def collector(stores: Stores) -> AsyncIterator[ReportCollector]:
    reports = ReportCollector(stores.settlements, stores.settler, stores.region, queue_items=1_000, queue_bytes=1 << 20)
    async with running(reports.commits.run()):
        yield reports


async def holding(stores: Stores, jobs: int) -> tuple[Hands, list[ClaimedExecution]]:
    hands = await register(stores)
    await insert(stores, *(new_job() for _ in range(jobs)))
    return hands, await hands.claim(jobs)


def reported(hands: Hands, execution_id: ExecutionId, ending: Ending, worker_id: str = "worker-1") -> Reported:
    return Reported(execution_id, hands.session_id, Reporter(worker_id, "anonymous"), ending)


async def answers(reports: ReportCollector, *batch: Reported) -> list[Outcome | BaseException]:
    """The answers of one batch, in its order."""
    futures = [reports.commits.enqueue_now(each, 1) for each in batch]
    return await until_done(asyncio.gather(*futures, return_exceptions=True))


async def test_every_report_of_a_mixed_batch_gets_its_own_answer(stores: Stores) -> None:
    hands, held = await holding(stores, 7)
    first, failed, second, twice, returned, foreign, done = (each.execution_id for each in held)
    await hands.end(Succeeded(), done)
    batch = [
        (reported(hands, done, Failed("no")), Outcome.STALE),
        (reported(hands, first, Succeeded(b"1")), Outcome.ACCEPTED),
        (reported(hands, ids.execution_id(), Succeeded()), Outcome.UNKNOWN),
        (reported(hands, failed, Failed("no")), Outcome.ACCEPTED),
        (reported(hands, twice, Succeeded(b"a")), Outcome.ACCEPTED),
        (reported(hands, twice, Failed("changed its mind")), Outcome.STALE),
        (reported(hands, done, Succeeded()), Outcome.ACCEPTED),
        (reported(hands, returned, Returned(was_sent=True)), Outcome.ACCEPTED),
        (reported(hands, foreign, Failed("not mine"), "worker-2"), Outcome.UNKNOWN),
        (reported(hands, second, Succeeded(b"2")), Outcome.ACCEPTED),
    ]
    async with collector(stores) as reports:
        assert await answers(reports, *(each for each, _ in batch)) == [outcome for _, outcome in batch]
    ended = {each.execution_id: (await stores.jobs.get(each.job_id)) for each in held}
    assert [ended[each].result for each in (first, second, twice)] == [b"1", b"2", b"a"]
    assert {ended[each].status for each in (first, second, twice, done)} == {JobStatus.SUCCEEDED}
    assert ended[failed].status == ended[returned].status == JobStatus.PENDING
    assert ended[foreign].status == JobStatus.DISPATCHING


async def test_the_first_word_of_a_batch_on_an_execution_counts(stores: Stores) -> None:
    hands, held = await holding(stores, 2)
    one, other = (each.execution_id for each in held)
    async with collector(stores) as reports:
        assert await answers(
            reports,
            reported(hands, one, Failed("no", do_not_retry=True)),
            reported(hands, one, Succeeded()),
            reported(hands, other, Succeeded()),
            reported(hands, other, Succeeded()),
        ) == [Outcome.ACCEPTED, Outcome.STALE, Outcome.ACCEPTED, Outcome.ACCEPTED]
    assert (await stores.jobs.get(held[0].job_id)).status == JobStatus.FAILED


async def test_successes_of_a_batch_stand_when_the_rest_of_it_meets_a_lock(stores: Stores, database_url: str) -> None:
    hands, held = await holding(stores, 3)
    first, second, locked = held
    async with sql(database_url) as session, collector(stores) as reports:
        async with session.transaction():
            await session.execute("select 1 from jobs where job_id = $1 for update", locked.job_id)
            found = await answers(
                reports,
                reported(hands, first.execution_id, Succeeded(b"1")),
                reported(hands, locked.execution_id, Failed("no")),
                reported(hands, second.execution_id, Succeeded(b"2")),
            )
        assert [found[0], found[2]] == [Outcome.ACCEPTED] * 2
        assert isinstance(found[1], TransientConflict)
        assert await answers(reports, reported(hands, locked.execution_id, Failed("no"))) == [Outcome.ACCEPTED]
    assert [(await stores.jobs.get(each.job_id)).result for each in (first, second)] == [b"1", b"2"]


async def test_a_flip_between_the_two_ways_loses_nothing_that_was_committed(
    stores: Stores, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands, held = await holding(stores, 2)
    first, second = held
    complete = stores.settlements.complete

    async def complete_and_flip(*arguments: object) -> object:
        completed = await complete(*arguments)  # type: ignore[arg-type]
        async with sql(database_url) as session:
            await session.execute("update region set primary_region = 'elsewhere', epoch = epoch + 1")
        return completed

    monkeypatch.setattr(type(stores.settlements), "complete", lambda _, *arguments: complete_and_flip(*arguments))
    async with collector(stores) as reports:
        found = await answers(
            reports,
            reported(hands, first.execution_id, Succeeded(b"1")),
            reported(hands, second.execution_id, Failed("no")),
        )
    # Unanswered: the worker sends both again in the new region, where the first is a repeat.
    assert [type(each) for each in found] == [NotPermitted, NotPermitted]
    assert (await stores.jobs.get(first.job_id)).status == JobStatus.SUCCEEDED
    assert (await stores.jobs.get(second.job_id)).status == JobStatus.DISPATCHING
