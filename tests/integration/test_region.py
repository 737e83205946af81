"""Switching regions on a real Postgres: who may, when it is done, and that nothing is written behind its back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from dispatchd.adapters.postgres.database import Database
from dispatchd.adapters.postgres.jobs import PostgresJobStore, _columns
from dispatchd.adapters.postgres.queries import SESSIONS, SUBMIT
from dispatchd.adapters.postgres.recovery import PostgresRegionStore
from dispatchd.adapters.postgres.region_switch import PostgresRegionSwitchStore
from dispatchd.adapters.postgres.rows import fence_values
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.adapters.redis.signals import RedisSignals
from dispatchd.application.announcer import Announcer
from dispatchd.application.ports import NotPermitted, Renewal
from dispatchd.application.region_switch import (
    Blockers,
    Deployment,
    Outcome,
    Progress,
    RegionSwitch,
    RegionSwitchRefused,
    StillBlocked,
    SwitchOvertaken,
    WrittenRow,
)
from dispatchd.application.region_watch import RegionWatch
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.domain.errors import RegionReadOnly
from dispatchd.domain.ids import IdGenerator, JobId
from dispatchd.domain.region import RegionFence, RegionMode, RegionRow
from dispatchd.domain.submission import NewJob, Submission, request_digest
from dispatchd.domain.worker import WorkerStatus
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from stores import FENCE, LEASE, Hands, insert, new_job, open_stores, register

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Connect = Callable[[], Awaitable[Connection]]

AT_ONCE = timedelta(0)
LONG = timedelta(seconds=60)
_numbers = itertools.count(1)


@dataclass
class Operator:
    """Makes switches for one command each, as `dispatchd region` does."""

    database: Database

    def __call__(
        self,
        patience: timedelta = AT_ONCE,
        *,
        terminates: bool = False,
        progress: Progress = lambda _blockers, _waited: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> RegionSwitch:
        store = PostgresRegionSwitchStore(self.database)
        return RegionSwitch(
            store, patience=patience, terminates=terminates, progress=progress, sleep=sleep, clock=clock
        )

    async def value(self) -> tuple[str, int, RegionMode]:
        return value_of((await PostgresRegionSwitchStore(self.database).read()).row)


class QuickClock:
    """Shows the time that was slept, which takes no time."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self._now_s += seconds
        await asyncio.sleep(0)


def value_of(row: RegionRow) -> tuple[str, int, RegionMode]:
    return row.primary_region, row.epoch, row.mode


@asynccontextmanager
async def operator_at(url: str) -> AsyncIterator[Operator]:
    async with Database(url, connections=2, application_name="dispatchd region") as database:
        yield Operator(database)


@pytest.fixture
async def operator(database_url: str) -> AsyncIterator[Operator]:
    async with operator_at(database_url) as made:
        yield made


@pytest.fixture
async def connect(database_url: str) -> AsyncIterator[Connect]:
    """Opens further sessions, which end with the test."""
    async with AsyncExitStack() as stack:

        async def open_session() -> Connection:
            connection = await asyncpg.connect(database_url)
            stack.callback(connection.terminate)
            return connection

        yield open_session


@pytest.fixture
async def role_url(database_url: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Makes a login role that may change the region row and whatever else is granted, and returns its address."""
    superuser = await asyncpg.connect(database_url)
    made: list[str] = []

    async def make(grants: str = "") -> str:
        name = f"operator_{next(_numbers)}"
        made.append(name)
        await superuser.execute(f"create role {name} login password 'secret'")
        await superuser.execute(
            f"grant select, update on region to {name}; grant select on schema_migrations to {name}"
        )
        if grants:
            await superuser.execute(f"grant {grants} to {name}")
        parts = urlsplit(database_url)
        return f"postgresql://{name}:secret@{parts.hostname}:{parts.port}{parts.path}"

    yield make
    for name in made:
        await superuser.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'")
        await superuser.execute(f"drop owned by {name}; drop role {name}")
    await superuser.close()


# --- compare and set ----------------------------------------------------------------------------------------------


async def test_set_writes_the_primary_under_the_next_epoch(operator: Operator) -> None:
    assert await operator.value() == ("local", 1, RegionMode.ACTIVE)
    done = await operator().set_primary("eu-2", 1)
    assert done.outcome is Outcome.CHANGED
    assert value_of(done.row) == await operator.value() == ("eu-2", 2, RegionMode.ACTIVE)


async def test_drain_leaves_the_epoch_and_a_set_ends_it(operator: Operator) -> None:
    assert value_of((await operator().drain(1)).row) == ("local", 1, RegionMode.DRAINING)
    assert value_of((await operator().set_primary("eu-2", 1)).row) == ("eu-2", 2, RegionMode.ACTIVE)


async def test_a_drain_that_is_undone_leaves_the_primary_and_the_epoch(operator: Operator) -> None:
    await operator().set_primary("eu-2", 1)
    await operator().drain(2)
    done = await operator().undo_drain(2)
    assert done.outcome is Outcome.CHANGED
    assert value_of(done.row) == await operator.value() == ("eu-2", 2, RegionMode.ACTIVE)
    assert (await operator().undo_drain(2)).outcome is Outcome.UNCHANGED


async def test_an_undo_waits_for_nobody_and_needs_no_privilege_for_that(
    operator: Operator, connect: Connect, role_url: Callable[[str], Awaitable[str]]
) -> None:
    await operator().drain(1)
    session = await connect()
    await session.execute("begin; select pg_current_xact_id()")
    async with operator_at(await role_url("")) as blind:
        assert (await blind().undo_drain(1)).outcome is Outcome.CHANGED


async def test_an_undo_that_comes_after_the_switch_changes_nothing(operator: Operator) -> None:
    await operator().drain(1)
    await operator().set_primary("eu-2", 1)
    await operator().drain(2)
    with pytest.raises(RegionSwitchRefused, match=r"has epoch 2 .*'eu-2', draining.*, not 1"):
        await operator().undo_drain(1)
    assert await operator.value() == ("eu-2", 2, RegionMode.DRAINING)


@pytest.mark.parametrize("command", ["drain", "undo_drain"])
async def test_an_expectation_that_comes_true_too_late_does_not_bring_the_old_primary_back(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Somebody switches, and drains, just when the row has been read under its earlier epoch."""
    read = PostgresRegionSwitchStore.read

    async def read_and_be_overtaken(store: PostgresRegionSwitchStore) -> WrittenRow:
        found = await read(store)
        monkeypatch.undo()
        await operator().set_primary("eu-2", 1)
        await operator().drain(2)
        return found

    monkeypatch.setattr(PostgresRegionSwitchStore, "read", read_and_be_overtaken)
    with pytest.raises(RegionSwitchRefused, match="has epoch 1 "):
        await getattr(operator(), command)(2)
    assert await operator.value() == ("eu-2", 2, RegionMode.DRAINING)


@pytest.mark.parametrize("expected_epoch", [1, 2, 4])
async def test_another_epoch_than_the_expected_one_changes_nothing(operator: Operator, expected_epoch: int) -> None:
    await operator().set_primary("eu-2", 1)
    await operator().set_primary("eu-3", 2)
    with pytest.raises(RegionSwitchRefused, match=f"has epoch 3 .*'eu-3', active.*, not {expected_epoch}"):
        await operator().set_primary("eu-4", expected_epoch)
    with pytest.raises(RegionSwitchRefused, match="has epoch 3"):
        await operator().drain(expected_epoch)
    with pytest.raises(RegionSwitchRefused, match="has epoch 3"):
        await operator().undo_drain(expected_epoch)
    assert await operator.value() == ("eu-3", 3, RegionMode.ACTIVE)


async def test_of_two_operators_with_the_same_expectation_one_wins(operator: Operator) -> None:
    answers = await asyncio.gather(
        operator().set_primary("eu-2", 1), operator().set_primary("eu-3", 1), return_exceptions=True
    )
    [refused] = [answer for answer in answers if isinstance(answer, RegionSwitchRefused)]
    [done] = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert value_of(done.row) == await operator.value()
    assert "has epoch 2" in str(refused)


async def test_a_switch_that_somebody_took_back_meanwhile_says_so(operator: Operator, connect: Connect) -> None:
    session = await connect()
    await session.execute("begin; select pg_current_xact_id()")
    taken_back = asyncio.Event()

    def progress(_blockers: Blockers, _waited: timedelta) -> None:
        taken_back.set()

    switching = asyncio.create_task(operator(LONG, progress=progress).set_primary("eu-2", 1))
    await taken_back.wait()
    with pytest.raises(StillBlocked):
        await operator().set_primary("eu-3", 2)
    await session.execute("commit")
    with pytest.raises(SwitchOvertaken, match="'eu-3', epoch 3"):
        await switching


# --- who may ------------------------------------------------------------------------------------------------------


async def test_a_role_that_can_not_see_others_is_refused_before_anything_is_changed(
    operator: Operator, role_url: Callable[[str], Awaitable[str]]
) -> None:
    async with operator_at(await role_url("")) as blind:
        for attempt in (
            blind().set_primary("eu-2", 1),
            blind().drain(1),
            blind().apply(Deployment("eu-2", "eu-2", 2)),
        ):
            with pytest.raises(RegionSwitchRefused, match=r"grant pg_read_all_stats to operator_\d+$"):
                await attempt
        assert await blind.value() == ("local", 1, RegionMode.ACTIVE)
        assert (await blind().apply(Deployment("local", "local", 1))).outcome is Outcome.UNCHANGED


async def test_a_role_with_the_privilege_sees_what_others_have_open(
    operator: Operator, connect: Connect, role_url: Callable[[str], Awaitable[str]]
) -> None:
    session = await connect()
    await session.execute("begin isolation level repeatable read; select from region")
    async with operator_at(await role_url("pg_monitor")) as seeing:
        with pytest.raises(StillBlocked) as blocked:
            await seeing().set_primary("eu-2", 1)
        assert [each.pid for each in blocked.value.blockers.transactions] == [session.get_server_pid()]
        with pytest.raises(StillBlocked, match=r"grant pg_signal_backend to operator_\d+"):
            await seeing(terminates=True).set_primary("eu-2", 1)
    assert await session.fetchval("select 1") == 1


async def test_a_read_only_database_is_left_alone(operator: Operator, connect: Connect, database_url: str) -> None:
    session = await connect()
    name = urlsplit(database_url).path.removeprefix("/")
    await session.execute(f"alter database {name} set default_transaction_read_only = on")
    async with operator_at(database_url) as late:
        done = await late().apply(Deployment("eu-2", "eu-2", 2))
        assert (done.outcome, done.note) == (Outcome.UNCHANGED, "this database is read-only")
        for attempt in (late().set_primary("eu-2", 1), late().drain(1), late().undo_drain(1)):
            with pytest.raises(RegionSwitchRefused, match="read-only"):
                await attempt
        assert await late.value() == ("local", 1, RegionMode.ACTIVE)


# --- when it is done ----------------------------------------------------------------------------------------------

OPEN_TRANSACTIONS = {
    "a snapshot without a transaction id": "begin isolation level repeatable read; select from region",
    "a transaction id without a snapshot": "begin; select pg_current_xact_id()",
    "both": "begin isolation level serializable; select pg_current_xact_id()",
}


@pytest.mark.parametrize("begin", OPEN_TRANSACTIONS.values(), ids=OPEN_TRANSACTIONS)
async def test_what_began_before_is_waited_for_and_the_same_command_goes_on(
    operator: Operator, connect: Connect, begin: str
) -> None:
    session = await connect()
    await session.execute("set application_name = 'nightly report'")
    await session.execute(begin)
    for _ in range(2):
        with pytest.raises(StillBlocked) as blocked:
            await operator().set_primary("eu-2", 1)
        assert value_of(blocked.value.row) == await operator.value() == ("eu-2", 2, RegionMode.ACTIVE)
        [blocker] = blocked.value.blockers.transactions
        assert (blocker.pid, blocker.application, blocker.state) == (
            session.get_server_pid(),
            "nightly report",
            "idle in transaction",
        )
    waits = asyncio.Event()

    def progress(blockers: Blockers, _waited: timedelta) -> None:
        assert [each.pid for each in blockers.transactions] == [session.get_server_pid()]
        waits.set()

    resumed = asyncio.create_task(operator(LONG, progress=progress).set_primary("eu-2", 1))
    await waits.wait()
    await session.execute("commit")
    assert (await resumed).outcome is Outcome.RESUMED


async def test_a_drain_waits_and_goes_on_too(operator: Operator, connect: Connect) -> None:
    session = await connect()
    await session.execute("begin; select pg_current_xact_id()")
    for _ in range(2):
        with pytest.raises(StillBlocked):
            await operator().drain(1)
    await session.execute("rollback")
    done = await operator().drain(1)
    assert (done.outcome, value_of(done.row)) == (Outcome.RESUMED, ("local", 1, RegionMode.DRAINING))


async def test_a_writer_with_a_younger_id_that_read_the_old_row_is_waited_for(
    operator: Operator, connect: Connect
) -> None:
    """The flip gets its id first, the writer reads the old row and gets a later one, then the flip commits."""
    flip, writer = await connect(), await connect()
    await flip.execute("begin; update region set primary_region = 'eu-2', epoch = 2, changed_at = now()")
    flip_id = int(await flip.fetchval("select pg_current_xact_id()::text"))
    await writer.execute("begin; create table under_the_old_row as select primary_region from region")
    assert int(await writer.fetchval("select pg_current_xact_id()::text")) > flip_id
    assert await writer.fetchval("select primary_region from under_the_old_row") == "local"
    await flip.execute("commit")
    with pytest.raises(StillBlocked) as blocked:
        await operator().set_primary("eu-2", 1)
    assert [each.pid for each in blocked.value.blockers.transactions] == [writer.get_server_pid()]
    await writer.execute("commit")
    assert (await operator().set_primary("eu-2", 1)).outcome is Outcome.RESUMED


async def test_a_prepared_transaction_from_before_is_waited_for(operator: Operator, connect: Connect) -> None:
    session = await connect()
    clock = QuickClock()
    gid = f"transfer {next(_numbers)}"
    await session.execute(f"begin; select pg_current_xact_id(); prepare transaction '{gid}'")
    try:
        for terminates in (False, True):
            with pytest.raises(StillBlocked) as blocked:
                # Time passes only while it sleeps: the patience after a termination is over at once.
                await operator(terminates=terminates, sleep=clock.sleep, clock=clock.now).set_primary("eu-2", 1)
            assert [each.gid for each in blocked.value.blockers.prepared] == [gid]
    finally:
        await session.execute(f"rollback prepared '{gid}'")
    assert (await operator().set_primary("eu-2", 1)).outcome is Outcome.RESUMED


async def test_a_transaction_that_is_prepared_during_the_wait_has_not_ended(
    operator: Operator, connect: Connect
) -> None:
    session = await connect()
    await session.execute("begin; select pg_current_xact_id()")
    gid = f"transfer {next(_numbers)}"
    seen: asyncio.Queue[Blockers] = asyncio.Queue()
    switching = asyncio.create_task(
        operator(LONG, progress=lambda blockers, _waited: seen.put_nowait(blockers)).set_primary("eu-2", 1)
    )
    assert [each.pid for each in (await seen.get()).transactions] == [session.get_server_pid()]
    await session.execute(f"prepare transaction '{gid}'")
    while (blockers := await seen.get()).transactions:
        continue
    assert [each.gid for each in blockers.prepared] == [gid]
    await session.execute(f"commit prepared '{gid}'")
    assert (await switching).outcome is Outcome.CHANGED


async def test_what_begins_later_is_not_waited_for(
    operator: Operator, connect: Connect, postgres: EmbeddedPostgres
) -> None:
    """Not even where an old transaction of another database makes every new snapshot look old."""
    elsewhere = await asyncpg.connect(postgres.url)
    try:
        await elsewhere.execute("begin; select pg_current_xact_id()")
        older, later = await connect(), await connect()
        await older.execute("begin; select pg_current_xact_id()")
        waits = asyncio.Event()
        switching = asyncio.create_task(
            operator(LONG, progress=lambda _blockers, _waited: waits.set()).set_primary("eu-2", 1)
        )
        await waits.wait()
        await later.execute("begin isolation level repeatable read")
        assert await later.fetchval("select primary_region from region") == "eu-2"
        await later.execute("select pg_current_xact_id()")
        await older.execute("commit")
        assert (await switching).outcome is Outcome.CHANGED
    finally:
        elsewhere.terminate()


async def test_terminate_ends_what_is_in_the_way_and_nothing_else(operator: Operator, connect: Connect) -> None:
    reader, writer, idle = await connect(), await connect(), await connect()
    await reader.execute("begin isolation level repeatable read; select from region")
    await writer.execute("begin; create table half_done ()")
    await idle.execute("begin")
    done = await operator(terminates=True).set_primary("eu-2", 1)
    assert done.outcome is Outcome.CHANGED
    for ended in (reader, writer):
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
            await ended.execute("commit")
    assert await idle.fetchval("select to_regclass('half_done')") is None


# --- apply --------------------------------------------------------------------------------------------------------

UNCHANGED = [
    Deployment("eu-1", "eu-1", 3),
    Deployment("eu-1", "eu-1", None),
    Deployment("eu-2", "eu-1", 3),
    Deployment("eu-2", "eu-1", None),
]
CHANGED = [Deployment("eu-2", "eu-2", 4), Deployment("eu-1", "eu-1", 4)]
REFUSED = [
    (Deployment("eu-2", "eu-2", None), "without REGION_EPOCH: set REGION_EPOCH to 4"),
    (Deployment("eu-2", "eu-2", 3), "an epoch has one primary, set REGION_EPOCH to 4"),
    (Deployment("eu-2", "eu-2", 2), "older than the row"),
    (Deployment("eu-1", "eu-1", 2), "older than the row"),
    (Deployment("eu-2", "eu-2", 5), "epochs are not skipped, set REGION_EPOCH to 4"),
    (Deployment("eu-1", "eu-2", 4), "only the deployment of region 'eu-2' itself"),
    (Deployment("eu-2", "eu-1", 4), "only the deployment of region 'eu-1' itself"),
]


@pytest.fixture
async def epoch_3(operator: Operator) -> Operator:
    """The primary is eu-1 under epoch 3."""
    await operator().set_primary("eu-2", 1)
    await operator().set_primary("eu-1", 2)
    return operator


@pytest.mark.parametrize("is_draining", [False, True])
@pytest.mark.parametrize("deployment", UNCHANGED, ids=str)
async def test_apply_leaves_a_row_that_agrees(epoch_3: Operator, deployment: Deployment, is_draining: bool) -> None:
    if is_draining:
        await epoch_3().drain(3)
    before = (await epoch_3().status()).row
    assert (await epoch_3().apply(deployment)).outcome is Outcome.UNCHANGED
    assert (await epoch_3().status()).row == before


@pytest.mark.parametrize("is_draining", [False, True])
@pytest.mark.parametrize("deployment", CHANGED, ids=str)
async def test_apply_switches_to_its_own_region_under_the_next_epoch(
    epoch_3: Operator, deployment: Deployment, is_draining: bool
) -> None:
    if is_draining:
        await epoch_3().drain(3)
    assert (await epoch_3().apply(deployment)).outcome is Outcome.CHANGED
    assert await epoch_3.value() == (deployment.region, 4, RegionMode.ACTIVE)


@pytest.mark.parametrize(("deployment", "why"), REFUSED, ids=str)
async def test_apply_fails_on_anything_else(epoch_3: Operator, deployment: Deployment, why: str) -> None:
    with pytest.raises(RegionSwitchRefused, match=why):
        await epoch_3().apply(deployment)
    assert await epoch_3.value() == ("eu-1", 3, RegionMode.ACTIVE)


async def test_an_apply_that_is_repeated_finishes_the_wait_of_the_first(epoch_3: Operator, connect: Connect) -> None:
    session = await connect()
    await session.execute("begin; select pg_current_xact_id()")
    deployment = Deployment("eu-2", "eu-2", 4)
    for _ in range(2):
        with pytest.raises(StillBlocked):
            await epoch_3().apply(deployment)
    assert (await epoch_3().apply(Deployment("eu-1", "eu-2", 4))).outcome is Outcome.UNCHANGED
    await session.execute("commit")
    assert (await epoch_3().apply(deployment)).outcome is Outcome.UNCHANGED


async def test_a_later_deployment_does_not_wait_for_transactions_of_its_own_day(
    epoch_3: Operator, connect: Connect
) -> None:
    session = await connect()
    await session.execute("update region set changed_at = now() - interval '1 day'")
    await session.execute("begin; select pg_current_xact_id()")
    assert (await epoch_3().apply(Deployment("eu-1", "eu-1", 3))).outcome is Outcome.UNCHANGED


# --- under load ---------------------------------------------------------------------------------------------------


class Tally:
    """Jobs that were acked, or refusals; others can wait for more of them."""

    def __init__(self) -> None:
        self.job_ids: list[JobId | None] = []
        self._grew = asyncio.Condition()

    async def add(self, job_id: JobId | None) -> None:
        async with self._grew:
            self.job_ids.append(job_id)
            self._grew.notify_all()

    async def grows_by(self, count: int) -> None:
        enough = len(self.job_ids) + count
        async with self._grew:
            await self._grew.wait_for(lambda: len(self.job_ids) >= enough)


class Clients:
    """Clients of one region that submit one job after the other, also when they are refused."""

    def __init__(self, submit: SubmitJobs, capability: str) -> None:
        self._submit = submit
        self._capability = capability
        self.acked, self.refused = Tally(), Tally()

    async def submit(self) -> JobId:
        return (await self._submit.submit(Submission(f"{self._capability}.work", b"{}"))).job_id

    async def run(self) -> None:
        while True:
            try:
                await self.acked.add(await self.submit())
            except RegionReadOnly:
                await self.refused.add(None)
                await asyncio.sleep(0)


@asynccontextmanager
async def region_process(url: str, redis: Redis, region: str) -> AsyncIterator[tuple[PostgresJobStore, Clients]]:
    """What a control-plane of a region has, with eight clients."""
    async with Database(url, connections=8, application_name=f"dispatchd control-plane {region}") as database:
        watch = RegionWatch(PostgresRegionStore(database), RegionFence(region))
        await watch.look()
        queue, signals = RedisReadyQueue(redis, f"ready:{region}"), RedisSignals(redis, f"ready:{region}")
        announcer = Announcer(queue, signals)
        store = PostgresJobStore(database)
        submit = SubmitJobs(store, announcer, watch, IdGenerator(), queue_items=1_000, queue_bytes=1 << 20)
        clients = Clients(submit, region)
        loops = [submit.commits.run(), announcer.run(), watch.run(), *(clients.run() for _ in range(8))]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop) for loop in loops]
            yield store, clients
            for task in tasks:
                task.cancel()


async def test_a_switch_under_load_leaves_no_write_of_the_old_region_behind(
    operator: Operator, connect: Connect, database_url: str, redis_address: str
) -> None:
    async with (
        Redis.from_url(f"redis://{redis_address}") as redis,
        region_process(database_url, redis, "local") as (old_store, old),
        region_process(database_url, redis, "eu-2") as (_, new),
    ):
        await old.acked.grows_by(50)
        # In the way: a transaction that has written a job under the old row and not committed it.
        in_the_way = await connect()
        await in_the_way.execute("begin")
        late_job = await _insert(in_the_way, "local")
        waits = asyncio.Event()
        switching = asyncio.create_task(
            operator(LONG, progress=lambda _blockers, _waited: waits.set()).set_primary("eu-2", 1)
        )
        await waits.wait()
        await asyncio.gather(old.refused.grows_by(1), new.acked.grows_by(1))
        assert not switching.done()
        await in_the_way.execute("commit")
        assert (await switching).outcome is Outcome.CHANGED
        jobs_of_old = await _jobs(connect, "local")
        # From here on nothing may come from the old region, whatever it tries.
        with pytest.raises(NotPermitted):
            await old_store.insert([_new_job("local")], RegionFence("local"))
        with pytest.raises(RegionReadOnly):
            await old.submit()
        await asyncio.gather(old.refused.grows_by(200), new.acked.grows_by(200))
    assert await _jobs(connect, "local") == jobs_of_old
    assert set(old.acked.job_ids) | {late_job} == jobs_of_old
    assert set(new.acked.job_ids) <= await _jobs(connect, "eu-2")


async def _insert(connection: Connection, region: str) -> JobId:
    """Inserts a job with the statement of the roles, inside whatever transaction is open."""
    job = _new_job(region)
    query = SUBMIT["insert_jobs"]
    [row] = await connection.fetch(
        query.sql, *query.arguments({**_columns([job]), **fence_values(RegionFence(region))})
    )
    assert row["permitted"]
    return job.job_id


def _new_job(region: str) -> NewJob:
    ids, submission = IdGenerator(), Submission(f"{region}.work", b"{}")
    return NewJob(ids.job_id(), ids.execution_id(), submission, None, request_digest(submission))


async def _jobs(connect: Connect, capability: str) -> set[JobId]:
    connection = await connect()
    rows = await connection.fetch("select job_id from jobs where capability = $1", capability)
    return {JobId(row["job_id"]) for row in rows}


# --- what a passive region may not write --------------------------------------------------------------------------


@pytest.fixture
async def passive(database_url: str) -> AsyncIterator[Callable[[], Awaitable[Hands]]]:
    """Makes a session of the old primary that holds an execution, and then another region the primary."""
    async with AsyncExitStack() as stack:

        async def make() -> Hands:
            stores = await stack.enter_async_context(open_stores(database_url))
            hands = await register(stores)
            await insert(stores, new_job())
            await hands.claim_one()
            async with operator_at(database_url) as operator:
                await operator(LONG).set_primary("eu-2", 1)
            return hands

        yield make


async def test_a_passive_region_renews_nothing_and_loses_nothing(
    passive: Callable[[], Awaitable[Hands]], connect: Connect
) -> None:
    hands = await passive()
    [claimed] = hands.held
    renewal = Renewal(hands.session_id, "worker-1", WorkerStatus.READY, {claimed.execution_id: timedelta(0)})
    # Not an answer that would count the session as lost: the worker resumes in the new primary.
    with pytest.raises(NotPermitted):
        await hands.stores.sessions.renew([renewal], LEASE, FENCE)
    session = await connect()
    assert await session.fetchval("select state from executions") == "claimed"


async def test_a_notice_of_a_start_is_not_written_by_a_passive_region(
    passive: Callable[[], Awaitable[Hands]], connect: Connect
) -> None:
    """Even where the switch comes between the renewal and the notice."""
    hands = await passive()
    [claimed] = hands.held
    async with hands.stores.database.connection() as connection:
        await connection.run(
            SESSIONS["mark_started"],
            execution_ids=[claimed.execution_id],
            session_ids=[hands.session_id],
            ages_us=[0],
            **fence_values(FENCE),
        )
    session = await connect()
    assert await session.fetchval("select state from executions") == "claimed"


async def test_the_retention_of_a_passive_region_deletes_nothing(
    passive: Callable[[], Awaitable[Hands]], connect: Connect
) -> None:
    hands = await passive()
    session = await connect()
    await session.execute("update worker_sessions set ended_at = now() - interval '1 day'")
    await session.execute("update executions set state = 'failed', end_reason = 'failed', finished_at = now()")
    recovery = hands.stores.recovery
    assert await recovery.delete_sessions_and_workers(timedelta(hours=1), 10, FENCE) == 0
    assert await session.fetchval("select count(*) from workers") == 1
    assert await recovery.delete_sessions_and_workers(timedelta(hours=1), 10, RegionFence("eu-2")) == 2
