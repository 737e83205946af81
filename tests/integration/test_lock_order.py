"""Locks are taken in one order, sessions, jobs, executions, each by id, whatever order the ids come in.

Somebody holds the middle one of three rows; the statement waits for it, and what it has locked by then is looked at.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatchd.application.ports import Offer, Renewal
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.domain.worker import WorkerStatus
from stores import (
    FENCE,
    LEASE,
    LONGEST,
    Hands,
    Stores,
    ids,
    insert,
    new_job,
    open_stores,
    register,
    sql,
    wait_long_for_locks,
)
from waiting import until_done, until_waiting

Session = asyncpg.Connection
KEYS = {"worker_sessions": "session_id", "jobs": "job_id", "executions": "execution_id"}


@dataclass(frozen=True, slots=True)
class Scene:
    """Three sessions, three jobs, three executions, each list in the order of the ids."""

    stores: Stores
    holder: "Session[asyncpg.Record]"
    probe: "Session[asyncpg.Record]"
    hands: list[Hands]
    jobs: list[JobId]
    executions: list[ExecutionId]

    async def locked(self, table: str) -> list[int]:
        """Which of the three rows somebody else than the holder has locked: their places in the order."""
        key = KEYS[table]
        free = {row[0] for row in await self.probe.fetch(f"select {key} from {table} for update skip locked")}
        everything: dict[str, list[Any]] = {
            "worker_sessions": [each.session_id for each in self.hands],
            "jobs": list(self.jobs),
            "executions": list(self.executions),
        }
        return [place for place, row in enumerate(everything[table]) if row not in free]

    async def while_held(self, table: str, row: UUID, work: Coroutine[Any, Any, object]) -> dict[str, list[int]]:
        """Runs work while a row is held; what is locked when it waits for that row."""
        async with self.holder.transaction():
            await self.holder.execute(f"select 1 from {table} where {KEYS[table]} = $1 for update", row)
            task = asyncio.create_task(work)
            await until_waiting(self.holder)
            found = {table: await self.locked(table) for table in KEYS}
        await until_done(task)
        return found


@pytest.fixture
async def scene(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    wait_long_for_locks(monkeypatch)
    async with open_stores(database_url) as stores, sql(database_url) as holder, sql(database_url) as probe:
        hands = [await register(stores, f"worker-{n}") for n in range(3)]
        new = [new_job() for _ in range(3)]
        await insert(stores, *new)
        jobs, executions = [job.job_id for job in new], [job.execution_id for job in new]
        assert jobs == sorted(jobs)
        assert executions == sorted(executions)
        assert [each.session_id for each in hands] == sorted(each.session_id for each in hands)
        yield Scene(stores, holder, probe, hands, jobs, executions)


async def hold_all(scene: Scene) -> None:
    """The three executions, claimed in another order than that of the ids."""
    offers = []
    for each, hands in zip(await scene.stores.recovery.ready_page("email", None, 3), scene.hands, strict=True):
        offers.append(Offer(each, hands.session_id))
    assert len(await scene.stores.claims.claim(offers[::-1], LONGEST, 1_000, FENCE)) == 3


async def test_the_end_of_executions_locks_their_jobs_first_and_each_by_id(scene: Scene) -> None:
    await hold_all(scene)
    backwards = scene.executions[::-1]
    found = await scene.while_held("jobs", scene.jobs[1], scene.hands[0].end(Failed("no"), *backwards))
    assert found == {"worker_sessions": [], "jobs": [0, 1], "executions": []}


async def test_the_end_of_executions_locks_them_by_id_when_it_has_all_jobs(scene: Scene) -> None:
    await hold_all(scene)
    backwards = scene.executions[::-1]
    found = await scene.while_held("executions", scene.executions[1], scene.hands[0].end(Succeeded(), *backwards))
    assert found == {"worker_sessions": [], "jobs": [0, 1, 2], "executions": [0, 1]}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ("jobs", {"worker_sessions": [], "jobs": [0, 1], "executions": []}),
        ("executions", {"worker_sessions": [], "jobs": [0, 1, 2], "executions": [0, 1]}),
    ],
)
async def test_successes_lock_jobs_first_and_each_by_id(
    scene: Scene, held: str, expected: dict[str, list[int]]
) -> None:
    await scene.hands[0].claim(3)
    middle = {"jobs": scene.jobs[1], "executions": scene.executions[1]}[held]
    found = await scene.while_held(held, middle, scene.hands[0].complete(*scene.executions[::-1]))
    assert found == expected


async def test_a_claim_locks_its_sessions_by_id_before_it_locks_executions(scene: Scene) -> None:
    entries = await scene.stores.recovery.ready_page("email", None, 3)
    offers = [Offer(entry, hands.session_id) for entry, hands in zip(entries, scene.hands[::-1], strict=True)]
    claiming = scene.stores.claims.claim(offers[::-1], LONGEST, 1_000, FENCE)
    found = await scene.while_held("worker_sessions", scene.hands[1].session_id, claiming)
    assert found == {"worker_sessions": [0, 1], "jobs": [], "executions": []}


async def test_renewals_lock_their_sessions_by_id(scene: Scene) -> None:
    renewals = [Renewal(each.session_id, each.registration.worker_id, WorkerStatus.READY) for each in scene.hands[::-1]]
    renewing = scene.stores.sessions.renew(renewals, LEASE, FENCE)
    found = await scene.while_held("worker_sessions", scene.hands[1].session_id, renewing)
    assert found == {"worker_sessions": [0, 1], "jobs": [], "executions": []}


async def test_a_redrive_locks_its_jobs_by_id(scene: Scene) -> None:
    await hold_all(scene)
    await scene.hands[0].end(Failed("no", do_not_retry=True), *scene.executions)
    again = [(job_id, ids.execution_id()) for job_id in scene.jobs[::-1]]
    found = await scene.while_held("jobs", scene.jobs[1], scene.stores.jobs.redrive(again, FENCE))
    assert found == {"worker_sessions": [], "jobs": [0, 1], "executions": []}


async def test_a_cancel_locks_the_job_before_its_execution(scene: Scene) -> None:
    await hold_all(scene)
    canceling = scene.stores.jobs.cancel(scene.jobs[1], FENCE)
    found = await scene.while_held("executions", scene.executions[1], canceling)
    assert found == {"worker_sessions": [], "jobs": [1], "executions": [1]}


async def test_started_notices_wait_for_nobody(scene: Scene) -> None:
    await hold_all(scene)
    started = {execution_id: timedelta(0) for execution_id in scene.executions[::-1]}
    renewal = Renewal(scene.hands[0].session_id, "worker-0", WorkerStatus.READY, started)
    async with scene.holder.transaction():
        await scene.holder.execute("select 1 from executions where execution_id = $1 for update", scene.executions[1])
        outcome = await until_done(asyncio.ensure_future(scene.stores.sessions.renew([renewal], LEASE, FENCE)))
    assert outcome.noticed == {scene.executions[0], scene.executions[2]}
    # Only what this session holds is marked.
    states = await scene.probe.fetch("select state from executions order by execution_id")
    assert [row["state"] for row in states].count("running") == 1


async def test_results_of_the_same_executions_in_opposite_order_do_not_dead_lock(scene: Scene) -> None:
    await hold_all(scene)
    async with scene.holder.transaction():
        await scene.holder.execute("select 1 from jobs where job_id = $1 for update", scene.jobs[1])
        both = [
            asyncio.create_task(scene.hands[0].end(Succeeded(), *order))
            for order in (scene.executions, scene.executions[::-1])
        ]
        await until_waiting(scene.holder, 2)
    ended = await until_done(asyncio.gather(*both))
    assert sorted(ended) == [0, 3]
