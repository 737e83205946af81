"""Workers that do everything at random, over two gateways: whatever happens, the books are right in the end."""

import asyncio
import random
from dataclasses import dataclass, field

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import ACCEPTED, BATCHING, RESUME, STARTED, WorkerStream

JOBS = 150
WORKERS = 10
_STREAM_IS_GONE = (grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError, TimeoutError)


@dataclass
class Ledger:
    """What the workers were told by the acks of their results."""

    succeeded: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


class ErraticWorker:
    """Finishes, fails, gives back, falls silent, drops its stream, comes back elsewhere: as another process, or
    listing some of what it held."""

    def __init__(self, name: str, addresses: list[str], ledger: Ledger, chance: random.Random) -> None:
        self._name = name
        self._addresses = addresses
        self._ledger = ledger
        self._chance = chance
        self._held: set[str] = set()
        self._words: dict[str, bool] = {}

    async def run(self) -> None:
        while True:
            stream = WorkerStream(self._chance.choice(self._addresses), self._name)
            try:
                await self._register(stream)
                await self._work(stream)
            except _STREAM_IS_GONE:
                pass
            finally:
                self._take_acks(stream)
                await stream.close()

    async def _register(self, stream: WorkerStream) -> None:
        if self._chance.random() < 0.3:
            self._held.clear()
            await stream.register(slots=3)
            return
        listed = [execution_id for execution_id in self._held if self._chance.random() < 0.8]
        self._held = set(listed)
        process_id = f"{self._name}-{self._chance.choice('ab')}"
        features = [RESUME, BATCHING, STARTED]
        ack = await stream.register(slots=3, features=features, process_id=process_id, held=listed)
        self._held -= set(ack.lost_execution_ids)

    async def _work(self, stream: WorkerStream) -> None:
        while True:
            while stream.has_assignment:
                self._held.add((await stream.assignment()).execution_id)
            self._take_acks(stream)
            match self._chance.randrange(12):
                case 0 | 1 | 2 | 3 if self._held:
                    await self._say(stream, success=True)
                case 4 | 5 if self._held:
                    await self._say(stream, success=False)
                case 6 if self._held:
                    await stream.give_back(self._held.pop())
                case 7 if self._held:
                    await stream.send(started=pb.ExecutionsStarted(execution_ids=list(self._held)))
                case 8 if self._chance.random() < 0.2:
                    return
                case 9 if self._chance.random() < 0.05:
                    await asyncio.sleep(1.2)
                case _:
                    await stream.heartbeat()
            await asyncio.sleep(self._chance.random() * 0.03)

    async def _say(self, stream: WorkerStream, *, success: bool) -> None:
        execution_id = self._held.pop()
        self._words[execution_id] = success
        await stream.result(execution_id, success=success, error_message="" if success else "no luck")

    def _take_acks(self, stream: WorkerStream) -> None:
        for ack in stream.arrived_acks():
            if ack.execution_id in self._words and ack.outcome == ACCEPTED:
                said = self._ledger.succeeded if self._words[ack.execution_id] else self._ledger.failed
                said.add(ack.execution_id)


@pytest.fixture
def site(database_url: str, redis_address: str) -> Site:
    return Site(database_url, redis_address, LEASE_DURATION="1s", WORKER_HEARTBEAT_TTL="2s")


async def test_whatever_workers_do_every_job_ends_once_and_no_two_hold_it_at_a_time(
    site: Site, scheduler: RunningRole, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    seed = 1
    chance = random.Random(seed)
    ledger = Ledger()
    async with site.gateway(INSTANCE_ID="gateway-2") as other_gateway:
        addresses = [gateway.address, other_gateway.address]
        workers = [
            asyncio.create_task(ErraticWorker(f"erratic-{n}", addresses, ledger, random.Random(seed * 100 + n)).run())
            for n in range(WORKERS)
        ]
        job_ids = [await jobs.submit(backoff_s=0, max_attempts=5, priority=n % 3) for n in range(JOBS)]
        canceled = set(chance.sample(job_ids, 10))
        for job_id in canceled:
            await jobs.cancel(job_id)

        async def all_have_ended() -> bool:
            for task in workers:
                if task.done():
                    task.result()
            return not await facts.value("select count(*) from jobs where state = 'active'")

        await eventually(all_have_ended, "all jobs have ended", patience_s=60.0, look_s=0.1)
        for task in workers:
            task.cancel()
        await asyncio.wait(workers)
    await check_the_books(facts, ledger)


async def check_the_books(facts: Facts, ledger: Ledger) -> None:
    live = await facts.value("select count(*) from executions where finished_at is null")
    assert live == 0
    overlapping = await facts.sql(
        """
        select earlier.job_id
        from executions earlier
        join executions later on later.job_id = earlier.job_id and later.delivery = earlier.delivery + 1
        where later.claimed_at < earlier.finished_at or later.created_at < earlier.finished_at
        """
    )
    assert overlapping == []
    broken = await facts.sql(
        """
        select job_id
        from executions
        group by job_id
        having max(delivery) <> count(*)
            or max(attempt) > 5
            or count(*) filter (where state in ('succeeded', 'dead_lettered')) > 1
            or count(distinct attempt) <> max(attempt)
        """
    )
    assert broken == []
    ends = {
        f"exec_{row['execution_id'].hex}": row["end_reason"]
        for row in await facts.sql("select execution_id, end_reason from executions")
    }
    assert {ends[execution_id] for execution_id in ledger.succeeded} <= {"succeeded"}
    assert {ends[execution_id] for execution_id in ledger.failed} <= {"failed"}
    assert ledger.succeeded
    assert ledger.failed
    wrong_jobs = await facts.sql(
        """
        select j.job_id
        from jobs j
        join lateral (
            select e.state from executions e where e.job_id = j.job_id order by e.delivery desc limit 1
        ) newest on true
        where (j.state = 'succeeded') <> (newest.state = 'succeeded')
           or (j.state = 'failed') <> (newest.state = 'dead_lettered')
        """
    )
    assert wrong_jobs == []
    deadlocks = await facts.value("select deadlocks from pg_stat_database where datname = current_database()")
    assert deadlocks == 0
