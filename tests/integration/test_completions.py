"""The short way of successes: one statement that ends what its session holds, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from dispatchd.application.ports import BatchRejected, Completion
from dispatchd.domain.job import JobStatus
from dispatchd.domain.settlement import Failed, Succeeded
from stores import FENCE, Hands, Stores, ids, insert, new_job, open_stores, register, sql, wait_long_for_locks
from waiting import until_done, until_waiting

Session = asyncpg.Connection


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


async def everything(session: "Session[asyncpg.Record]") -> list[str]:
    rows = await session.fetch(
        "select j::text || e::text as text from jobs j join executions e using (job_id) order by e.execution_id"
    )
    return [row["text"] for row in rows]


async def holding(stores: Stores, jobs: int) -> Hands:
    """A session that holds the executions of so many new jobs."""
    hands = await register(stores)
    await insert(stores, *(new_job() for _ in range(jobs)))
    assert len(await hands.claim(jobs)) == jobs
    return hands


async def test_what_the_session_holds_ends_with_its_job_and_is_named(stores: Stores) -> None:
    hands = await holding(stores, 2)
    first, second = hands.held
    ended = await stores.settlements.complete(
        [
            Completion(second.execution_id, hands.session_id, Succeeded(b"2", {"rows": "12", "ü": "✓"})),
            Completion(first.execution_id, hands.session_id, Succeeded()),
        ],
        FENCE,
    )
    assert ended == {held.execution_id: held.job_id for held in hands.held}
    job = await stores.jobs.get(second.job_id)
    assert (job.status, job.result, job.attempts) == (JobStatus.SUCCEEDED, b"2", 1)
    [execution] = await stores.jobs.executions(second.job_id, 0, 10)
    assert (execution.state, execution.end_reason, execution.finished_at) == ("succeeded", "succeeded", job.updated_at)
    assert execution.metadata == {"rows": "12", "ü": "✓"}
    assert (await stores.jobs.get(first.job_id)).result == b""


async def test_what_is_not_the_sessions_has_ended_or_never_was_is_left_alone(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    hands = await holding(stores, 4)
    done, failed, dead, mine = (held.execution_id for held in hands.held)
    await hands.end(Succeeded(b"first"), done)
    await hands.end(Failed("no"), failed)
    await hands.end(Failed("no", do_not_retry=True), dead)
    other = await register(stores, "worker-2")
    [never_claimed] = await insert(stores, new_job())
    [queued] = await stores.jobs.executions(never_claimed.view.job_id, 0, 1)
    before = await everything(session)
    assert await hands.complete(done, failed, dead, queued.execution_id, ids.execution_id()) == set()
    assert await other.complete(done, failed, dead, mine) == set()
    assert await everything(session) == before
    assert await hands.complete(ids.execution_id(), done, mine, failed) == {mine}


async def test_a_value_that_cannot_be_stored_refuses_the_batch_and_ends_nothing(
    stores: Stores, session: "Session[asyncpg.Record]"
) -> None:
    hands = await holding(stores, 2)
    first, second = (held.execution_id for held in hands.held)
    before = await everything(session)
    with pytest.raises(BatchRejected):
        await stores.settlements.complete(
            [
                Completion(first, hands.session_id, Succeeded(b"1")),
                Completion(second, hands.session_id, Succeeded(b"2", {"nul": "\0"})),
            ],
            FENCE,
        )
    assert await everything(session) == before


@pytest.mark.parametrize(
    "change",
    [
        "state = 'failed', end_reason = 'canceled', finished_at = now()",
        "session_id = (select session_id from worker_sessions where worker_id = 'worker-2')",
    ],
    ids=["it ended", "it moved to another session"],
)
@pytest.mark.parametrize("lock", ["its job", "itself"])
async def test_what_changed_while_it_waited_for_a_lock_is_left_to_the_long_way(
    stores: Stores,
    session: "Session[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    lock: str,
) -> None:
    wait_long_for_locks(monkeypatch)
    async with open_stores(stores.url) as patient:
        hands = await holding(patient, 2)
        await register(patient, "worker-2")
        contended, other = hands.held
        async with session.transaction():
            if lock == "its job":
                await session.execute("select 1 from jobs where job_id = $1 for update", contended.job_id)
            await session.execute(f"update executions set {change} where execution_id = $1", contended.execution_id)
            completing = asyncio.create_task(hands.complete(contended.execution_id, other.execution_id))
            await until_waiting(session)
        assert await until_done(completing) == {other.execution_id}
        assert (await patient.jobs.get(contended.job_id)).status != JobStatus.SUCCEEDED


@pytest.mark.parametrize(
    "change",
    [
        "state = 'running', started_at = now()",
        "session_id = (select session_id from worker_sessions where worker_id = 'worker-1')",
    ],
    ids=["it was marked as begun", "it moved to this session"],
)
@pytest.mark.parametrize("lock", ["its job", "itself"])
async def test_what_is_its_own_when_the_lock_is_had_ends_whatever_it_was_before(
    database_url: str, session: "Session[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch, change: str, lock: str
) -> None:
    wait_long_for_locks(monkeypatch)
    async with open_stores(database_url) as stores:
        hands = await holding(stores, 1)
        other = await register(stores, "worker-2")
        [held] = hands.held
        if "session_id" in change:
            await session.execute("update executions set session_id = $1", other.session_id)
        async with session.transaction():
            if lock == "its job":
                await session.execute("select 1 from jobs where job_id = $1 for update", held.job_id)
            await session.execute(f"update executions set {change}")
            completing = asyncio.create_task(hands.complete(held.execution_id))
            await until_waiting(session)
        assert await until_done(completing) == {held.execution_id}
        assert (await stores.jobs.get(held.job_id)).status == JobStatus.SUCCEEDED


async def test_the_same_success_at_the_same_moment_ends_it_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_long_for_locks(monkeypatch)
    async with open_stores(database_url) as stores:
        hands = await holding(stores, 20)
        executions = [held.execution_id for held in hands.held]
        ended = await asyncio.gather(*(hands.complete(*executions[::step]) for step in (1, -1, 1, -1)))
        assert sorted(map(len, ended)) == [0, 0, 0, 20]
