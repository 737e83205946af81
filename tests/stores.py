"""The real stores on a test's database, and a worker that works through them without a gateway."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from dispatchd.adapters.postgres.claims import PostgresClaimStore
from dispatchd.adapters.postgres.database import STATEMENT_TIMEOUT, Database
from dispatchd.adapters.postgres.jobs import PostgresJobStore
from dispatchd.adapters.postgres.recovery import PostgresRecoveryStore, PostgresRegionStore
from dispatchd.adapters.postgres.sessions import PostgresSessionStore
from dispatchd.adapters.postgres.settlements import PostgresSettlementStore
from dispatchd.adapters.redis.connection import open_redis
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.adapters.redis.signals import RedisSignals
from dispatchd.application.announcer import Announcer
from dispatchd.application.ports import ClaimedExecution, Completion, NewSession, Offer, ReadyEntry, StoredJob
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.settler import Settler
from dispatchd.domain.ids import ExecutionId, IdGenerator, JobId, SessionId
from dispatchd.domain.region import RegionFence
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.settlement import Ending, Succeeded
from dispatchd.domain.submission import NewJob, Submission, TraceContext, key_digest, request_digest
from dispatchd.domain.views import JobView
from dispatchd.domain.worker import Registration

FENCE = RegionFence("local")
LEASE = timedelta(seconds=30)
LONGEST = timedelta(hours=24)
PREFIX = "test:ready:local"

ids = IdGenerator()


@dataclass(slots=True)
class Stores:
    """Everything that stands on one pool of connections, as in a role."""

    url: str
    database: Database
    jobs: PostgresJobStore
    claims: PostgresClaimStore
    settlements: PostgresSettlementStore
    sessions: PostgresSessionStore
    recovery: PostgresRecoveryStore
    region: RegionWatch
    queue: RedisReadyQueue
    announcer: Announcer
    settler: Settler
    signals: RedisSignals


@asynccontextmanager
async def open_stores(
    url: str,
    redis_address: str = "127.0.0.1:1",
    *,
    connections: int = 4,
    fence: RegionFence = FENCE,
    chance: float = 0.5,
    prefix: str = PREFIX,
    statement_timeout: timedelta = STATEMENT_TIMEOUT,
) -> AsyncIterator[Stores]:
    """Opens a pool and builds the stores; without an address there is no Redis. The announcer's loop does not run."""
    async with (
        redis_at(redis_address) as redis,
        Database(
            url, connections=connections, application_name="stores", statement_timeout=statement_timeout
        ) as database,
    ):
        queue, signals = RedisReadyQueue(redis, prefix), RedisSignals(redis, prefix)
        announcer = Announcer(queue, signals)
        region = RegionWatch(PostgresRegionStore(database), fence)
        await region.look()
        settlements = PostgresSettlementStore(database)
        yield Stores(
            url,
            database,
            PostgresJobStore(database),
            PostgresClaimStore(database),
            settlements,
            PostgresSessionStore(database),
            PostgresRecoveryStore(database),
            region,
            queue,
            announcer,
            Settler(settlements, announcer, region, ids, chance=lambda: chance),
            signals,
        )


@asynccontextmanager
async def redis_at(address: str) -> AsyncIterator[Redis]:
    """A client as the roles have it, whether anybody listens at `host:port` or not."""
    host, _, port = address.partition(":")
    client = open_redis(host, int(port))
    try:
        yield client
    finally:
        await client.aclose()


def wait_long_for_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on stores wait for locks longer than the server needs to find a dead-lock (1 s), so that a test may
    hold a lock for as long as it has to, and a dead-lock is one and no mere conflict."""
    monkeypatch.setattr("dispatchd.adapters.postgres.database.LOCK_TIMEOUT", timedelta(seconds=20))


@asynccontextmanager
async def sql(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A session of the test's own, for looking at facts and for holding locks."""
    session = await asyncpg.connect(url, timeout=10.0, server_settings={"application_name": "the test itself"})
    try:
        yield session
    finally:
        await session.close(timeout=10.0)


@asynccontextmanager
async def running(*loops: Any) -> AsyncIterator[None]:
    """Runs loops (coroutines) around a block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def new_job(
    job_type: str = "email.send",
    payload: bytes = b"{}",
    *,
    key: str = "",
    priority: int = 0,
    run_at: datetime | None = None,
    timeout: timedelta | None = None,
    policy: RetryPolicy | None = None,
    metadata: dict[str, str] | None = None,
) -> NewJob:
    """A job as the submit use case hands it to the store."""
    submission = Submission(
        job_type, payload, priority, key, metadata or {}, policy or RetryPolicy(), run_at=run_at, timeout=timeout
    )
    return NewJob(
        ids.job_id(),
        ids.execution_id(),
        submission,
        key_digest(key),
        request_digest(submission),
        TraceContext(),
    )


async def insert(stores: Stores, *jobs: NewJob) -> list[StoredJob]:
    """Stores jobs and checks that each has an answer."""
    stored = await stores.jobs.insert(jobs, FENCE)
    found = [job for job in stored if job is not None]
    assert len(found) == len(jobs)
    return found


@dataclass(slots=True)
class Hands:
    """A worker session that claims and ends executions straight through the stores."""

    stores: Stores
    session_id: SessionId
    registration: Registration
    held: list[ClaimedExecution] = field(default_factory=list)

    async def claim(self, most: int = 1) -> list[ClaimedExecution]:
        """Claims the best that is ready for its capabilities."""

        def choose(entries: Sequence[ReadyEntry]) -> list[Offer]:
            best = sorted(entries, key=lambda e: (-e.priority, e.due_at, e.execution_id))[:most]
            return [Offer(entry, self.session_id) for entry in best]

        claimed = await self.stores.claims.claim_best(
            self.registration.capabilities, most, choose, LONGEST, 65_536, FENCE
        )
        self.held += claimed
        return claimed

    async def claim_one(self) -> ClaimedExecution:
        """Claims one that must be there."""
        [claimed] = await self.claim()
        return claimed

    async def complete(self, *execution_ids: ExecutionId) -> set[ExecutionId]:
        """Reports success as a gateway does first; returns what ended by that."""
        completions = [Completion(execution_id, self.session_id, Succeeded(b"1")) for execution_id in execution_ids]
        return set(await self.stores.settlements.complete(completions, FENCE))

    async def end(self, ending: Ending, *execution_ids: ExecutionId) -> int:
        """Ends executions as a gateway or the scheduler would; returns how many ended."""
        return await self.stores.settler.settle(execution_ids, lambda execution: ending)

    async def fail_until_dead(self, ending: Ending, job_id: JobId) -> JobView:
        """Claims and ends attempts, due or not, until the job is a dead letter."""
        while (view := await self.stores.jobs.get(job_id)).status == "pending":
            await make_due(self.stores)
            await self.end(ending, (await self.claim_one()).execution_id)
        return view


async def make_due(stores: Stores) -> None:
    """Lets the backoffs of all waiting executions be over."""
    async with sql(stores.url) as session:
        await session.execute("update executions set state = 'queued', due_at = now() where state = 'waiting'")


async def register(
    stores: Stores,
    worker_id: str = "worker-1",
    capabilities: Iterable[str] = ("email",),
    *,
    lease: timedelta = LEASE,
    slots: int = 1_000,
) -> Hands:
    """Opens a session in the registry."""
    registration = Registration(worker_id, tuple(capabilities), slots)
    session_id = ids.session_id()
    new = NewSession(session_id, registration, "anonymous", "gateway-1", "ipv4:127.0.0.1:1", lease)
    await stores.sessions.open(new, lambda omitted, is_same: [], FENCE)
    return Hands(stores, session_id, registration)


def from_now(**offset: float) -> datetime:
    """A time as far from now as `timedelta(**offset)`; host and database are one machine here."""
    return datetime.now(UTC) + timedelta(**offset)
