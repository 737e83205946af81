"""One fault of each kind in the middle of a steady load: what was acknowledged ends, nothing runs twice at once."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from dispatchd.entrypoints.settings import Role
from recovery.plant import LEASE, Plant, running_plant

JOBS = 150
pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

Fault = Callable[[Plant], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("recovery")) as running:
        yield running


async def kill_control_plane(plant: Plant) -> None:
    await plant.installation.of_role(Role.CONTROL_PLANE)[0].kill()


async def kill_gateway(plant: Plant) -> None:
    await plant.installation.of_role(Role.WORKER_GATEWAY)[0].kill()


async def kill_both_schedulers(plant: Plant) -> None:
    for scheduler in plant.installation.of_role(Role.SCHEDULER):
        await scheduler.kill()


async def stop_gateway_in_order(plant: Plant) -> None:
    gateway = plant.installation.of_role(Role.WORKER_GATEWAY)[0]
    gateway.send_signal(signal.SIGTERM)
    assert await gateway.wait_ended() == 0


async def kill_a_worker(plant: Plant) -> None:
    plant.workers[-1].kill()
    plant.start_worker(1)


async def freeze_a_worker_past_its_lease(plant: Plant) -> None:
    worker = plant.workers[-1]
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE.total_seconds() * 2)
    worker.send_signal(signal.SIGCONT)


async def freeze_the_leader_past_its_lock(plant: Plant) -> None:
    schedulers = plant.installation.of_role(Role.SCHEDULER)
    for scheduler in schedulers:
        scheduler.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        scheduler.send_signal(signal.SIGCONT)


async def empty_redis(plant: Plant) -> None:
    host, _, port = plant.installation.redis_address.partition(":")
    async with Redis(host=host, port=int(port), password=plant.installation.environ.get("REDIS_PASSWORD")) as redis:
        await redis.flushall()


async def restart_redis(plant: Plant) -> None:
    assert plant.installation.valkey is not None
    await asyncio.to_thread(plant.installation.valkey.kill)
    await asyncio.to_thread(plant.installation.valkey.start)


async def live_without_redis(plant: Plant) -> None:
    assert plant.installation.valkey is not None
    await asyncio.to_thread(plant.installation.valkey.kill)
    begun = len(plant.worked())
    await plant.wait_until_worked(begun + 50)
    await asyncio.to_thread(plant.installation.valkey.start)


async def restart_postgres(plant: Plant) -> None:
    assert plant.installation.postgres is not None
    await asyncio.to_thread(plant.installation.postgres.restart)


async def kill_postgres(plant: Plant) -> None:
    assert plant.installation.postgres is not None
    await asyncio.to_thread(plant.installation.postgres.kill)
    await asyncio.to_thread(plant.installation.postgres.start)


@pytest.mark.parametrize(
    "fault",
    [
        kill_control_plane,
        kill_gateway,
        kill_both_schedulers,
        stop_gateway_in_order,
        kill_a_worker,
        freeze_a_worker_past_its_lease,
        freeze_the_leader_past_its_lock,
        empty_redis,
        restart_redis,
        live_without_redis,
        restart_postgres,
        kill_postgres,
    ],
)
async def test_what_was_acknowledged_ends_and_runs_at_one_worker_at_a_time(plant: Plant, fault: Fault) -> None:
    begun = len(plant.worked())
    async with asyncio.timeout(150), asyncio.TaskGroup() as load:
        load.create_task(plant.submit(JOBS), name="load")
        await plant.wait_until_worked(begun + 20)
        await fault(plant)
    await plant.wait_until_all_succeeded()
    assert await plant.overlaps() == []


async def test_a_drained_gateway_burns_no_attempt(plant: Plant) -> None:
    before = await plant.attempts_burned()
    async with asyncio.TaskGroup() as load:
        load.create_task(plant.submit(JOBS), name="load")
        await stop_gateway_in_order(plant)
    await plant.wait_until_all_succeeded()
    assert await plant.attempts_burned() == before
