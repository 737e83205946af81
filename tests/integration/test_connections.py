"""The connections to Postgres: how many there are, who gets them, and which are thrown away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from dispatchd.adapters.postgres.database import Connection, Database
from dispatchd.adapters.postgres.queries import Query
from dispatchd.application.ports import DatabaseUnavailable
from stores import sql, wait_long_for_locks
from tcp_proxy import TcpProxy, proxy_to
from waiting import eventually, until, until_done, until_waiting

Session = asyncpg.Connection
PID = Query("pid", "select pg_backend_pid() as pid", ())
LOCK = Query("lock", "select pg_advisory_xact_lock(1)", ())


@pytest.fixture(autouse=True)
def _locks_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long_for_locks(monkeypatch)


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, connections=2, application_name="lent") as database:
        yield database


async def pid(database: Database) -> int:
    """The backend that serves one use."""
    async with database.connection() as connection:
        return await pid_of(connection)


async def pid_of(connection: Connection) -> int:
    row = await connection.row(PID)
    assert row is not None
    return int(row["pid"])


async def lock(database: Database) -> None:
    async with database.connection() as connection:
        await connection.run(LOCK)


async def backends(session: "Session[asyncpg.Record]") -> set[int]:
    return {
        row["pid"] for row in await session.fetch("select pid from pg_stat_activity where application_name = 'lent'")
    }


async def test_there_are_never_more_than_allowed_and_who_comes_later_waits(
    database: Database, session: "Session[asyncpg.Record]"
) -> None:
    async with session.transaction():
        await session.execute("select pg_advisory_xact_lock(1)")
        tasks = [asyncio.create_task(lock(database)) for _ in range(6)]
        await until_waiting(session, 2)
        assert len(await backends(session)) == 2
        assert not any(task.done() for task in tasks)
    await until_done(asyncio.gather(*tasks))
    assert len(await backends(session)) == 2


async def test_the_one_used_last_is_lent_next(database: Database) -> None:
    assert len({await pid(database) for _ in range(5)}) == 1


async def test_who_is_cancelled_while_he_waits_takes_nothing_with_him(
    database: Database, session: "Session[asyncpg.Record]"
) -> None:
    async with session.transaction():
        await session.execute("select pg_advisory_xact_lock(1)")
        busy = [asyncio.create_task(lock(database)) for _ in range(2)]
        await until_waiting(session, 2)
        waiting = [asyncio.create_task(lock(database)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    await until_done(asyncio.gather(*busy))
    await until_done(asyncio.gather(*(pid(database) for _ in range(4))))


async def test_a_connection_whose_statement_was_cancelled_is_never_lent_again(
    database: Database, session: "Session[asyncpg.Record]"
) -> None:
    first = await pid(database)
    async with session.transaction():
        await session.execute("select pg_advisory_xact_lock(1)")
        task = asyncio.create_task(lock(database))
        await until_waiting(session)
        task.cancel()
        await asyncio.wait({task})
    assert await pid(database) != first


async def test_idle_connections_that_the_server_has_closed_are_not_lent(
    database: Database, session: "Session[asyncpg.Record]"
) -> None:
    async with database.connection() as one, database.connection() as other:
        before = {await pid_of(one), await pid_of(other)}
    idle = list(database._idle)
    for each in before:
        await session.execute("select pg_terminate_backend($1)", each)
    await until(lambda: all(raw.is_closed() for raw in idle))
    assert not before & {await pid(database) for _ in range(3)}


async def test_a_transaction_that_was_left_open_is_not_handed_on(
    database: Database, session: "Session[asyncpg.Record]"
) -> None:
    async with database.connection() as connection:
        await connection.begin()
        before = await pid_of(connection)
    assert await pid(database) != before
    await until_gone(session, before)


async def until_gone(session: "Session[asyncpg.Record]", *gone: int) -> None:
    """Waits until the server has ended these backends, or all of them."""

    async def are_gone() -> bool:
        left = await backends(session)
        return not (left & set(gone) if gone else left)

    await eventually(are_gone)


async def test_one_loss_of_the_network_costs_one_failure_however_many_connections_lie_idle(
    database_url: str, session: "Session[asyncpg.Record]"
) -> None:
    parts = urlsplit(database_url)
    async with proxy_to(f"{parts.hostname}:{parts.port}") as proxy:
        through = parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}").geturl()
        async with Database(
            through, connections=5, application_name="lent", statement_timeout=timedelta(seconds=0.3)
        ) as database:
            before = await all_at_once(database, 5)
            assert len(before) == 5
            failures = await fail_once(database, proxy)
            assert failures == 1
            assert not before & await all_at_once(database, 5)


async def all_at_once(database: Database, uses: int) -> set[int]:
    """The backends of so many uses, each of which ends when all have begun."""
    begun = asyncio.Barrier(uses)

    async def use() -> int:
        async with database.connection() as connection:
            found = await pid_of(connection)
            await begun.wait()
            return found

    found: list[int] = await until_done(asyncio.gather(*(use() for _ in range(uses))))
    return set(found)


async def fail_once(database: Database, proxy: TcpProxy) -> int:
    """Uses the database over a network that has lost all it had in flight; how often it failed until it worked."""
    proxy.go_deaf()
    failures = 0
    while True:
        try:
            await pid(database)
        except DatabaseUnavailable:
            failures += 1
            proxy.hear_again()
        else:
            return failures


async def test_nothing_is_done_after_it_was_closed(database_url: str, session: "Session[asyncpg.Record]") -> None:
    database = Database(database_url, connections=1, application_name="lent")
    async with session.transaction():
        await session.execute("select pg_advisory_xact_lock(1)")
        async with database:
            busy = asyncio.create_task(lock(database))
            await until_waiting(session)
            late = asyncio.create_task(pid(database))
            await asyncio.sleep(0)
    await until_done(busy)
    with pytest.raises(RuntimeError, match="not open"):
        await until_done(late)
    await until_gone(session)
