"""The claim store: ready executions become a session's own."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from dispatchd.adapters.postgres.database import Connection, Database, Record
from dispatchd.adapters.postgres.queries import CLAIM
from dispatchd.adapters.postgres.rows import fence_values, labels_of, microseconds
from dispatchd.application.ports import ClaimedExecution, Offer, ReadyEntry
from dispatchd.domain.ids import ExecutionId, JobId, SessionId
from dispatchd.domain.region import RegionFence
from dispatchd.domain.submission import TraceContext


class PostgresClaimStore:
    """Fulfils `ClaimStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, offers: Sequence[Offer], longest: timedelta, inline_bytes: int, fence: RegionFence
    ) -> list[ClaimedExecution]:
        async with self._database.connection() as connection:
            return await _claim(connection, offers, longest, inline_bytes, fence)

    async def claim_best(
        self,
        capabilities: Sequence[str],
        most: int,
        choose: Callable[[Sequence[ReadyEntry]], Sequence[Offer]],
        longest: timedelta,
        inline_bytes: int,
        fence: RegionFence,
    ) -> list[ClaimedExecution]:
        async with self._database.transaction() as connection:
            rows = await connection.rows(CLAIM["lock_ready_executions"], capabilities=capabilities, most=most)
            offers = choose([_entry(row) for row in rows])
            return await _claim(connection, offers, longest, inline_bytes, fence) if offers else []

    async def sessions_over(self, session_ids: Sequence[SessionId]) -> set[SessionId]:
        async with self._database.connection() as connection:
            rows = await connection.rows(CLAIM["sessions_over"], session_ids=session_ids)
        return {SessionId(row["session_id"]) for row in rows}

    async def payload(self, job_id: JobId) -> bytes | None:
        async with self._database.connection() as connection:
            row = await connection.row(CLAIM["payload_of"], job_id=job_id)
        return None if row is None else row["payload"]


async def _claim(
    connection: Connection, offers: Sequence[Offer], longest: timedelta, inline_bytes: int, fence: RegionFence
) -> list[ClaimedExecution]:
    session_ids = [offer.session_id for offer in offers]
    rows = await connection.rows(
        CLAIM["claim_executions"],
        execution_ids=[offer.entry.execution_id for offer in offers],
        session_ids=session_ids,
        sessions=list(dict.fromkeys(session_ids)),
        longest_us=microseconds(longest),
        inline_bytes=inline_bytes,
        **fence_values(fence),
    )
    return [_claimed(row) for row in rows]


def _entry(row: Record) -> ReadyEntry:
    return ReadyEntry(ExecutionId(row["execution_id"]), row["capability"], row["priority"], row["due_at"])


def _claimed(row: Record) -> ClaimedExecution:
    return ClaimedExecution(
        execution_id=ExecutionId(row["execution_id"]),
        job_id=JobId(row["job_id"]),
        session_id=SessionId(row["session_id"]),
        attempt=row["attempt"],
        job_type=row["job_type"],
        payload=row["payload"],
        metadata=labels_of(row["metadata"]),
        trace=TraceContext(row["traceparent"] or "", row["tracestate"] or ""),
        due_at=row["due_at"],
        claimed_at=row["claimed_at"],
        deadline_at=row["deadline_at"],
    )
