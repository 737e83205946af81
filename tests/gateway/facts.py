"""Waiting for facts, and the facts themselves: what the database says about executions and sessions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

T = TypeVar("T")

PATIENCE_S = 15.0
_LOOK_S = 0.01


async def eventually(
    probe: Callable[[], Awaitable[T | None]], what: str, patience_s: float = PATIENCE_S, *, look_s: float = _LOOK_S
) -> T:
    """Looks again and again until `probe` answers something true, and returns that."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience_s:g} s it is still not so that {what}; the last answer: {answer!r}")
        await asyncio.sleep(look_s)


@dataclass(frozen=True, slots=True)
class Execution:
    """A row of `executions`, with the ids as the contract writes them."""

    execution_id: str
    job_id: str
    attempt: int
    delivery: int
    counted_before: int
    state: str
    end_reason: str | None
    session_id: UUID | None
    worker_id: str | None
    due_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error_message: str | None
    error_type: str | None
    result_metadata: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """A row of `worker_sessions`."""

    session_id: UUID
    status: str
    lease_expires_at: datetime
    last_seen_at: datetime
    closed_at: datetime | None
    superseded_at: datetime | None
    ended_at: datetime | None


class Facts:
    """A look into the database beside the roles; also holds locks, to keep races open."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own, for a transaction that stays open."""
        return await asyncpg.connect(self._url, timeout=10.0)

    async def sql(self, statement: str, *arguments: object) -> list[Any]:
        """Runs one statement and returns its rows."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.connect()
        return await self._connection.fetch(statement, *arguments)

    async def value(self, statement: str, *arguments: object) -> Any:
        """The first value of the first row, or None."""
        rows = await self.sql(statement, *arguments)
        return rows[0][0] if rows else None

    @asynccontextmanager
    async def holding(self, statement: str, *arguments: object) -> AsyncIterator[asyncpg.Connection]:
        """Runs a statement that locks something, in a transaction that is committed at the end of the block."""
        connection = await self.connect()
        try:
            async with connection.transaction():
                await connection.execute(statement, *arguments)
                yield connection
        finally:
            await connection.close()

    def changing(self, statement: str, *arguments: object) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Runs a statement that is committed at the end of the block, and not before."""
        return self.holding(statement, *arguments)

    def holding_job(self, job_id: str) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Holds the lock on a job's row: nothing about it can be committed."""
        return self.holding("select from jobs where job_id = $1 for update", uuid_of(job_id))

    def holding_session(self, session_id: UUID) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Holds the lock on a session's row: it can't be renewed, ended, taken over or given anything."""
        return self.holding("select from worker_sessions where session_id = $1 for update", session_id)

    async def session(self, worker_id: str) -> Session:
        """The newest session of a worker."""
        rows = await self.sql(
            "select * from worker_sessions where worker_id = $1 order by session_id desc limit 1", worker_id
        )
        return Session(**{name: rows[0][name] for name in Session.__slots__})

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def executions(self, job_id: str) -> list[Execution]:
        """The executions of a job by delivery number."""
        rows = await self.sql(
            "select * from executions where job_id = $1 order by delivery", UUID(job_id.removeprefix("job_"))
        )
        return [_execution(row) for row in rows]

    async def execution(self, execution_id: str) -> Execution:
        rows = await self.sql("select * from executions where execution_id = $1", uuid_of(execution_id))
        return _execution(rows[0])

    async def ended(self, execution_id: str, end_reason: str, patience_s: float = PATIENCE_S) -> Execution:
        """Waits until an execution has ended for this reason."""

        async def has_ended() -> Execution | None:
            execution = await self.execution(execution_id)
            return execution if execution.end_reason == end_reason else None

        return await eventually(has_ended, f"{execution_id} has ended as {end_reason}", patience_s)

    async def refuse_state(self, job_id: str, state: str) -> None:
        """From here on the database refuses that an execution of this job gets into this state."""
        await self.sql(
            """
            create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'not this one' using errcode = 'P0001'; end $$
            """
        )
        await self.sql(
            f"""
            create trigger refuse before update on executions for each row
            when (old.job_id = '{uuid_of(job_id)}' and new.state = '{state}') execute function refuse()
            """
        )

    async def waiting_for_locks(self, query: str) -> int:
        """How many backends wait for a lock in the named query."""
        count: int = await self.value(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock' and query like '-- ' || $1 || E'\\n%'",
            query,
        )
        return count

    async def blocked(self, query: str, times: int = 1) -> None:
        """Waits until the named query waits for a lock."""

        async def waits() -> bool:
            return await self.waiting_for_locks(query) >= times

        await eventually(waits, f"{query} waits for a lock")


def uuid_of(text: str) -> UUID:
    """The uuid in a job's or execution's id."""
    return UUID(text.rpartition("_")[2])


def _execution(row: Any) -> Execution:
    return Execution(
        execution_id=f"exec_{row['execution_id'].hex}",
        job_id=f"job_{row['job_id'].hex}",
        **{name: row[name] for name in Execution.__slots__ if name not in ("execution_id", "job_id")},
    )
