"""The age of the oldest ready execution: found among all capabilities and priorities, told only by who can know it."""

from collections.abc import AsyncIterator

import pytest

from dispatchd.application.scheduler.leadership import Leadership
from dispatchd.application.scheduler.ready_age_meter import ReadyAgeMeter
from dispatchd.domain.errors import Unavailable
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.telemetry.metrics import REGISTRY
from scheduler_loops import leadership_at
from stores import Stores, from_now, insert, new_job, open_stores, sql

NOBODY = "127.0.0.1:1"
HOUR_S = 3600.0


def sample() -> float | None:
    """What a scrape of this process would find."""
    return REGISTRY.get_sample_value("dispatchd_oldest_ready_age_seconds")


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def leadership() -> AsyncIterator[Leadership]:
    """Acts, because there is no Redis."""
    async with leadership_at(NOBODY) as leadership:
        await leadership.wait_until_acting()
        yield leadership


async def make_ready_since(stores: Stores, hours: float, job_type: str, priority: int = 0) -> None:
    """Stores a job that is ready and has been due for so long."""
    [job] = await insert(stores, new_job(job_type, priority=priority))
    async with sql(stores.url) as session:
        await session.execute(
            "update executions set due_at = now() - $2 * interval '1 hour' where job_id = $1", job.view.job_id, hours
        )


async def test_it_is_0_while_nothing_is_due(stores: Stores, leadership: Leadership) -> None:
    meter = ReadyAgeMeter(stores.recovery, stores.region, leadership)
    await meter.look()
    assert sample() == 0.0
    await insert(stores, new_job(run_at=from_now(hours=1)))
    await meter.look()
    assert sample() == 0.0


@pytest.mark.parametrize("page", [1, 2, 1_000])
@pytest.mark.parametrize("oldest", range(6))
async def test_the_oldest_is_found_wherever_it_waits(
    stores: Stores, leadership: Leadership, page: int, oldest: int
) -> None:
    queues = [("a.x", 0), ("a.x", 2_147_483_647), ("email.send", 0), ("email.send", 7), ("email.send", 8), ("z.x", 3)]
    for n, (job_type, priority) in enumerate(queues):
        await make_ready_since(stores, 9 if n == oldest else 1, job_type, priority)
        await make_ready_since(stores, 0, job_type, priority)
    await ReadyAgeMeter(stores.recovery, stores.region, leadership, page=page).look()
    found = sample()
    assert found is not None
    assert 9 * HOUR_S <= found < 10 * HOUR_S


async def test_what_is_due_and_not_queued_yet_counts_too(stores: Stores, leadership: Leadership) -> None:
    [job] = await insert(stores, new_job(run_at=from_now(hours=1)))
    await make_ready_since(stores, 1, "email.send")
    async with sql(stores.url) as session:
        await session.execute(
            "update executions set due_at = now() - interval '2 hours' where job_id = $1 and state = 'waiting'",
            job.view.job_id,
        )
    await ReadyAgeMeter(stores.recovery, stores.region, leadership).look()
    found = sample()
    assert found is not None
    assert 2 * HOUR_S <= found < 3 * HOUR_S


async def test_what_a_worker_holds_does_not_count(stores: Stores, leadership: Leadership) -> None:
    await make_ready_since(stores, 1, "email.send")
    async with sql(stores.url) as session:
        await session.execute("update executions set state = 'claimed', session_id = job_id, claimed_at = now()")
    await ReadyAgeMeter(stores.recovery, stores.region, leadership).look()
    assert sample() == 0.0


async def test_a_follower_has_no_sample(stores: Stores, redis_address: str) -> None:
    async with leadership_at(redis_address) as leader:
        await leader.wait_until_acting()
        await ReadyAgeMeter(stores.recovery, stores.region, leader).look()
        assert sample() == 0.0
        async with leadership_at(redis_address) as follower:
            await ReadyAgeMeter(stores.recovery, stores.region, follower).look()
            assert not follower.should_act
            assert sample() is None


async def test_a_passive_region_has_no_sample_and_a_draining_one_has(stores: Stores, leadership: Leadership) -> None:
    meter = ReadyAgeMeter(stores.recovery, stores.region, leadership)
    async with sql(stores.url) as session:
        await session.execute("update region set mode = 'draining'")
        await stores.region.look()
        await meter.look()
        assert sample() == 0.0
        await session.execute("update region set primary_region = 'elsewhere', epoch = 2, mode = 'active'")
        await stores.region.look()
        await meter.look()
        assert sample() is None


async def test_what_was_true_before_the_database_went_away_is_not_repeated(
    stores: Stores, leadership: Leadership, postgres: EmbeddedPostgres
) -> None:
    meter = ReadyAgeMeter(stores.recovery, stores.region, leadership)
    await meter.look()
    assert sample() == 0.0
    postgres.stop()
    with pytest.raises(Unavailable):
        await meter.look()
    assert sample() is None
