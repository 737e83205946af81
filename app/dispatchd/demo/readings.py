"""What the database of the demo's installation says: how far it is, and in the end every job and every execution."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import asyncpg

from dispatchd.demo.report import ExecutionRow, JobRow
from dispatchd.domain.execution import EndReason
from dispatchd.domain.ids import format_job_id
from dispatchd.domain.job import JobState

_CONNECT_TIMEOUT_S = 10.0
_QUERY_TIMEOUT_S = 30.0


class Readings:
    """Reads over one connection; changes nothing."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._finished = _sql("finished")

    async def has_tables(self) -> bool:
        """Whether there is any table, of whomever."""
        return bool(await self._connection.fetchval(_sql("has_tables")))

    async def finished(self) -> int:
        """How many jobs have ended."""
        return int(await self._connection.fetchval(self._finished))

    async def held(self, worker_id: str) -> tuple[int, bool]:
        """How many executions this worker holds, and whether it has held some for a tenth of a second."""
        row = await self._connection.fetchrow(_sql("held"), worker_id)
        return (0, False) if row is None else (row["held"], row["is_settled"])

    async def jobs(self) -> list[JobRow]:
        """Every job."""
        return [
            JobRow(
                format_job_id(row["job_id"]),
                JobState(row["state"]),
                row["created_at"],
                row["finished_at"],
                int(row["result"] or b"0"),
            )
            for row in await self._connection.fetch(_sql("jobs"))
        ]

    async def executions(self) -> list[ExecutionRow]:
        """Every execution, by job and delivery."""
        return [
            ExecutionRow(
                format_job_id(row["job_id"]),
                row["attempt"],
                row["delivery"],
                EndReason(row["end_reason"]) if row["end_reason"] else None,
                row["error_type"] or "",
                row["due_at"],
                row["started_at"],
                row["is_resumed"],
            )
            for row in await self._connection.fetch(_sql("executions"))
        ]


@asynccontextmanager
async def open_readings(database_url: str) -> AsyncIterator[Readings]:
    """Connects to the database for as long as the block runs."""
    connection = await asyncpg.connect(database_url, timeout=_CONNECT_TIMEOUT_S, command_timeout=_QUERY_TIMEOUT_S)
    try:
        yield Readings(connection)
    finally:
        await connection.close(timeout=_CONNECT_TIMEOUT_S)


def _sql(name: str) -> str:
    return files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")
