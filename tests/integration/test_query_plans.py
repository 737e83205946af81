"""Hot statements find their rows by index and touch a bounded number of them, however large the tables are.

The statistics are those of the empty tables first, as after a burst of work that autovacuum has not seen yet, and then
fresh ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from databases import cloned_database
from dispatchd.adapters.postgres.region_switch import PostgresRegionSwitchStore
from dispatchd.application.ports import Completion, Offer, ReadyEntry, Renewal
from dispatchd.application.scheduler.ready_age_meter import BEFORE_ALL
from dispatchd.domain.errors import JobNotFound
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.job import JobState
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.domain.worker import WorkerStatus
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from plan_data import HELD_BY_EACH, SESSIONS, fill, prepare
from plans import Plan, Plans, explained
from stores import FENCE, LEASE, LONGEST, Stores, from_now, ids, insert, new_job, open_stores, register, sql
from waiting import eventually

BATCH = 50
HELD = SESSIONS * HELD_BY_EACH
SIZES = (0, 10_000, 1_000_000)
SMALL_TABLES = {"region"}

Operation = Callable[[], Awaitable[object]]


@pytest.fixture(scope="module", params=SIZES)
def url(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, _template: None) -> Iterator[str]:
    """A loaded database; a million jobs take about 15 s."""
    with cloned_database(postgres) as url:
        asyncio.run(prepare(url))
        asyncio.run(fill(url, request.param))
        yield url


def _id(word: str, n: int) -> UUID:
    return UUID(f"018f0000-0000-7000-{word}-{n:012x}")


def job_id(n: int) -> JobId:
    return JobId(_id("8000", n))


def held(n: int) -> ExecutionId:
    return ExecutionId(_id("8fff", n))


def session_id(n: int) -> SessionId:
    return SessionId(_id("a000", n))


async def deep_in_the_dead_letters(url: str) -> tuple[datetime, JobId]:
    """A position that 200 older ones follow."""
    async with sql(url) as session:
        row = await session.fetchrow(
            "select finished_at, job_id from jobs where state = 'failed' "
            "order by finished_at, job_id offset 200 limit 1"
        )
    return (from_now(days=-1), job_id(1)) if row is None else (row["finished_at"], row["job_id"])


async def deep_in_the_queue(url: str) -> ReadyEntry | None:
    """An entry behind nine tenths of the longest queue."""
    queued = "from executions where state = 'queued' and capability = 'email'"
    async with sql(url) as session:
        row = await session.fetchrow(
            f"select execution_id, capability, priority, due_at {queued} order by priority desc, due_at, execution_id "
            f"offset (select count(*) * 9 / 10 {queued}) limit 1"
        )
    return None if row is None else ReadyEntry(*row)


def operations(stores: Stores, url: str, round_number: int) -> "dict[str, tuple[Operation, int]]":
    """What is done, and about how many rows each of its statements may touch."""
    first = round_number * 2 * BATCH
    keyed = [new_job(key=f"{round_number}/{n}") for n in range(BATCH)]
    sessions = [session_id(n) for n in range(1, SESSIONS + 1)]
    ready = [
        Offer(ReadyEntry(ExecutionId(_id("9000", 10 * (first + n))), "email", 0, from_now()), sessions[n])
        for n in range(1, BATCH + 1)
    ]
    held_now = [held(first + n) for n in range(1, BATCH + 1)]
    completions = [
        Completion(held(n), session_id(n % SESSIONS + 1), Succeeded(b"1"))
        for n in range(HELD // 2 + first, HELD // 2 + first + BATCH)
    ]
    started = {held(HELD - first - n): timedelta(0) for n in range(BATCH)}
    ended_states = [JobState.SUCCEEDED, JobState.CANCELED]

    def best(entries: Sequence[ReadyEntry]) -> list[Offer]:
        ranked = sorted(entries, key=lambda e: (-e.priority, e.due_at, e.execution_id))
        return [Offer(entry, sessions[0]) for entry in ranked[:BATCH]]

    async def deep_page() -> None:
        await stores.recovery.ready_page("email", await deep_in_the_queue(url), BATCH)

    async def deep_letters() -> None:
        await stores.jobs.dead_letters(await deep_in_the_dead_letters(url), None, BATCH)

    async def get() -> None:
        with pytest.raises(JobNotFound):
            await stores.jobs.get(ids.job_id())
        await stores.jobs.get(JobId(_id("b000", 1)))

    renewals = [Renewal(each, f"worker {n}", WorkerStatus.READY) for n, each in enumerate(sessions, start=1)]
    renewals[0] = Renewal(sessions[0], "worker 1", WorkerStatus.READY, started)
    gone = Renewal(session_id(1_001), "old 1", WorkerStatus.READY)
    return {
        "insert": (lambda: insert(stores, *(new_job() for _ in range(BATCH))), BATCH),
        "insert with keys": (lambda: insert(stores, *keyed), BATCH),
        "insert again": (lambda: insert(stores, *(new_job(key=f"{round_number}/{n}") for n in range(BATCH))), BATCH),
        "claim": (lambda: stores.claims.claim(ready, LONGEST, 1_000, FENCE), BATCH),
        "claim without Redis": (
            lambda: stores.claims.claim_best(["email", "rare2"], BATCH, best, LONGEST, 1_000, FENCE),
            2 * BATCH,
        ),
        "complete": (lambda: stores.settlements.complete(completions, FENCE), BATCH),
        "fail": (lambda: stores.settler.settle(held_now[: BATCH // 2], lambda _: Failed("no")), BATCH),
        "succeed": (lambda: stores.settler.settle(held_now[BATCH // 2 :], lambda _: Succeeded(b"1")), BATCH),
        "cancel": (lambda: stores.jobs.cancel(JobId(_id("b000", HELD - round_number)), FENCE), 1),
        "redrive": (
            lambda: stores.jobs.redrive(
                [(job_id(10 * (first + n) + 4), ids.execution_id()) for n in range(BATCH)], FENCE
            ),
            BATCH,
        ),
        "renew": (lambda: stores.sessions.renew([*renewals, gone], LEASE, FENCE), HELD),
        "register": (lambda: register(stores, f"worker {50 + round_number}"), HELD_BY_EACH),
        "queue what is due": (lambda: stores.recovery.queue_due(BATCH, FENCE), BATCH),
        "next due": (stores.recovery.next_due, 1),
        "end sessions": (lambda: stores.recovery.end_expired_sessions(BATCH, FENCE), SESSIONS),
        "recover": (lambda: stores.recovery.executions_to_recover(BATCH), HELD),
        "next lease or deadline": (stores.recovery.next_lease_or_deadline, HELD),
        "capabilities": (lambda: stores.recovery.ready_capabilities(100), 10),
        "first page": (lambda: stores.recovery.ready_page("email", None, BATCH), BATCH),
        "deep page": (deep_page, BATCH),
        "oldest ready": (lambda: stores.recovery.oldest_of_each_queue(BEFORE_ALL, BATCH), BATCH),
        "oldest ready, later": (lambda: stores.recovery.oldest_of_each_queue(("email", 1), BATCH), BATCH),
        "region status": (PostgresRegionSwitchStore(stores.database).status, HELD),
        "retention, nothing": (
            lambda: stores.recovery.delete_finished(ended_states, timedelta(days=7), BATCH, FENCE),
            1,
        ),
        "retention": (
            lambda: stores.recovery.delete_finished(ended_states, timedelta(hours=1), BATCH, FENCE),
            2 * BATCH,
        ),
        "retention of workers, nothing": (
            lambda: stores.recovery.delete_sessions_and_workers(timedelta(days=7), BATCH, FENCE),
            1,
        ),
        "retention of workers": (
            lambda: stores.recovery.delete_sessions_and_workers(timedelta(hours=1), BATCH, FENCE),
            100 * BATCH,
        ),
        "get": (get, 1),
        "executions": (lambda: stores.jobs.executions(JobId(_id("b000", 1)), 0, BATCH), BATCH),
        "finished": (lambda: stores.jobs.finished_among([job_id(n) for n in range(BATCH)]), BATCH),
        "summaries": (lambda: stores.jobs.summaries([job_id(n) for n in range(BATCH)]), BATCH),
        # Not hot: with old statistics a few thousand may be sorted for a page.
        "dead letters": (lambda: stores.jobs.dead_letters(None, None, BATCH), 10 * BATCH),
        "dead letters, deep": (deep_letters, BATCH),
        "workers": (lambda: stores.jobs.workers("", BATCH), BATCH * HELD_BY_EACH),
    }


# A row costs at most so many rows in all nodes of a plan together, and so many pages: an index of a million rows is
# three pages deep, and each of a dozen indexes may be written.
ROWS_PER_ROW, ROWS_BESIDES = 25, 150
BLOCKS_PER_ROW, BLOCKS_BESIDES = 45, 150


def complaint(what: str, statement: str, plan: Plan, rows: int) -> str | None:
    most_rows, most_blocks = rows * ROWS_PER_ROW + ROWS_BESIDES, rows * BLOCKS_PER_ROW + BLOCKS_BESIDES
    scanned = plan.scanned_tables - SMALL_TABLES
    if not scanned and plan.rows <= most_rows and plan.blocks <= most_blocks:
        return None
    return (
        f"{what}: {statement} touched {plan.rows} rows (at most {most_rows}) and {plan.blocks} pages (at most "
        f"{most_blocks}), and read {sorted(scanned) or 'no table'} from end to end\n{plan.text()}"
    )


async def complaints(stores: Stores, url: str, plans: Plans, round_number: int) -> list[str]:
    found = []
    for what, (operation, rows) in operations(stores, url, round_number).items():
        await operation()
        for statement, runs in plans.take().items():
            found += [text for plan in runs if (text := complaint(what, statement, plan, rows)) is not None]
    return found


@pytest.mark.timeout(300)
async def test_statements_touch_a_bounded_number_of_rows_found_by_index(url: str) -> None:
    async with open_stores(url) as stores:
        with explained() as plans:
            found = await complaints(stores, url, plans, 0)
    assert not found, "\n\n".join(["with the statistics of empty tables:", *found])
    async with sql(url) as session:
        await session.execute("vacuum analyze")
    # Connections of their own, for plans are made once for each.
    async with open_stores(url) as stores:
        with explained() as plans:
            found = await complaints(stores, url, plans, 1)
    assert not found, "\n\n".join(["with fresh statistics:", *found])


async def test_plans_made_for_empty_tables_are_good_for_full_ones(database_url: str) -> None:
    await prepare(database_url)
    async with open_stores(database_url, connections=1) as stores:
        with explained() as plans:
            for operation, _ in operations(stores, database_url, 0).values():
                with suppress(JobNotFound):
                    await operation()
            plans.take()
            await fill(database_url, 30_000)
            found = await complaints(stores, database_url, plans, 1)
    assert not found, "\n\n".join(["with plans that were made for empty tables:", *found])


async def test_renewals_rewrite_nothing_but_their_row_in_its_page(database_url: str) -> None:
    async with open_stores(database_url) as stores:
        hands = [await register(stores, f"worker {n}") for n in range(20)]
        renewals = [Renewal(each.session_id, each.registration.worker_id, WorkerStatus.READY) for each in hands]
    async with sql(database_url) as session:
        await session.execute("vacuum worker_sessions")
        before = await updates_of(session, "worker_sessions", at_least=0)
        async with open_stores(database_url) as stores:
            for _ in range(50):
                await stores.sessions.renew(renewals, LEASE, FENCE)
        after = await updates_of(session, "worker_sessions", at_least=before[0] + 20 * 50)
    assert after[0] - before[0] == 20 * 50
    # A page that is full until it is pruned costs a few.
    assert after[1] - before[1] >= 0.95 * 20 * 50


async def test_no_change_of_state_rewrites_what_was_submitted(database_url: str) -> None:
    async with open_stores(database_url) as stores:
        hands = await register(stores)
        await insert(stores, *(new_job(payload=bytes(100_000)) for _ in range(4)))
        first, second, third, fourth = await hands.claim(4)
        started = {first.execution_id: timedelta(0)}
        renewal = Renewal(hands.session_id, "worker-1", WorkerStatus.READY, started)
        await stores.sessions.renew([renewal], LEASE, FENCE)
        await hands.complete(first.execution_id)
        await hands.end(Failed("no"), second.execution_id)
        await hands.end(Failed("no", do_not_retry=True), third.execution_id)
        await stores.jobs.cancel(fourth.job_id, FENCE)
        await stores.jobs.redrive([(third.job_id, ids.execution_id())], FENCE)
    async with sql(database_url) as session:
        # Two ended by results, one by a cancel, and one was reopened.
        assert (await updates_of(session, "jobs", at_least=4))[0] == 4
        assert await updates_of(session, "job_inputs", at_least=0) == (0, 0)


async def updates_of(session: "asyncpg.Connection[asyncpg.Record]", table: str, *, at_least: int) -> tuple[int, int]:
    """How many rows were updated, and how many of them within their page and without a look at an index. Sessions say
    what they did when they end, or some time later."""

    async def look() -> "asyncpg.Record | None":
        row = await session.fetchrow(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = $1", table
        )
        assert row is not None
        return row if row["n_tup_upd"] >= at_least else None

    row = await eventually(look)
    assert row is not None
    return row["n_tup_upd"], row["n_tup_hot_upd"]
