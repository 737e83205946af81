"""The rules about what is stored find every contradiction that is planted."""

from collections.abc import AsyncIterator

import pytest

from dispatchd.domain.settlement import Failed
from fuzz import stored
from stores import insert, new_job, open_stores, register, sql

PLANTED = {
    "a job without an execution": "delete from executions where state = 'queued'",
    "a job without its input": "delete from job_inputs",
    "an execution without a job": "delete from jobs where state = 'active'",
    "an active job that has not exactly one execution under way, the newest": """
        insert into executions (execution_id, job_id, attempt, delivery, capability, priority, state, due_at)
        select gen_random_uuid(), job_id, 2, 2, capability, priority, 'waiting', now()
        from executions where state = 'queued'
    """,
    "an ended job with an execution under way": """
        update jobs set state = 'canceled', finished_at = now() where state = 'active'
    """,
    "a job that ended otherwise than its newest execution": """
        update executions set state = 'failed', end_reason = 'failed' where state = 'succeeded'
    """,
    "a job that went on after it had succeeded or was canceled": """
        insert into executions (execution_id, job_id, attempt, delivery, capability, priority, state, due_at)
        select gen_random_uuid(), job_id, 2, 2, capability, priority, 'queued', now()
        from executions where state = 'succeeded'
    """,
    "deliveries that are not numbered 1, 2, 3": "update executions set delivery = 3 where state = 'succeeded'",
    "more attempts than the policy has": "update executions set attempt = 4, delivery = 4 where state = 'queued'",
    "a result of a job that has not succeeded": "update jobs set result = '1' where state = 'failed'",
    "an execution at a session that never was": """
        update executions set session_id = gen_random_uuid() where state = 'claimed'
    """,
    "a session of a worker that is not in the registry": "delete from workers",
    "a job of a caller who may not submit": "update jobs set job_type = 'forbidden-a.work' where state = 'active'",
    "a worker of a caller who may not connect": """
        insert into workers (worker_id, capabilities, slots, session_id)
        values ('forbidden-1', '{a}', 1, gen_random_uuid())
    """,
}


@pytest.fixture
async def healthy(database_url: str) -> AsyncIterator[str]:
    """A database with jobs in all states: one succeeded, one failed, one at a worker, one waiting for a worker."""
    async with open_stores(database_url) as stores:
        await insert(stores, *(new_job() for _ in range(3)))
        worker = await register(stores)
        done, failed, _ = await worker.claim(3)
        await worker.complete(done.execution_id)
        await worker.end(Failed("no", "No", do_not_retry=True), failed.execution_id)
        await insert(stores, new_job())
        yield database_url


async def test_nothing_is_said_of_a_healthy_database(healthy: str) -> None:
    assert await stored.contradictions(healthy) == []
    assert len(await stored.some_jobs(healthy, 10)) == 4
    assert len(await stored.some_jobs(healthy, 2)) == 2


@pytest.mark.parametrize("rule", PLANTED)
async def test_a_contradiction_is_found(healthy: str, rule: str) -> None:
    async with sql(healthy) as session:
        assert not (await session.execute(PLANTED[rule])).endswith(" 0")
    found = await stored.contradictions(healthy)
    assert any(sentence.startswith(f"the database has {rule}: ") for sentence in found), found


def test_every_rule_is_tried() -> None:
    assert list(PLANTED) == stored.RULES


async def test_what_is_under_way_is_no_rest(healthy: str) -> None:
    assert [sentence.partition(":")[0] for sentence in await stored.unrest(healthy)] == [
        "the database has an execution at a worker",
        "the database has an open session",
    ]
