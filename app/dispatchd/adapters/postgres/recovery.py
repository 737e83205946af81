"""The recovery store: what the scheduler looks for, and the region row."""

from collections.abc import Sequence
from datetime import timedelta

from dispatchd.adapters.postgres.database import Database, Record
from dispatchd.adapters.postgres.queries import RECOVER, REGION, RETENTION
from dispatchd.adapters.postgres.rows import fence_values, microseconds
from dispatchd.application.ports import DatabaseClock, QueueAge, ReadyEntry
from dispatchd.domain.ids import ExecutionId, SessionId
from dispatchd.domain.job import JobState
from dispatchd.domain.region import RegionFence, RegionMode, RegionRow

_DELETED_BYTES = 32 * 1024 * 1024
"""Inputs and results that one transaction deletes; 1 GiB took longer than a statement may."""


class PostgresRecoveryStore:
    """Fulfils `RecoveryStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def queue_due(self, most: int, fence: RegionFence) -> list[ReadyEntry]:
        async with self._database.connection() as connection:
            rows = await connection.rows(RECOVER["queue_due_executions"], most=most, **fence_values(fence))
        return [_entry(row) for row in rows]

    async def next_due(self) -> timedelta | None:
        async with self._database.connection() as connection:
            return _delay(await connection.row(RECOVER["next_due"]))

    async def end_expired_sessions(self, most: int, fence: RegionFence) -> list[tuple[SessionId, str]]:
        async with self._database.connection() as connection:
            rows = await connection.rows(RECOVER["end_expired_sessions"], most=most, **fence_values(fence))
        return [(SessionId(row["session_id"]), row["worker_id"]) for row in rows]

    async def executions_to_recover(self, most: int) -> list[ExecutionId]:
        async with self._database.connection() as connection:
            rows = await connection.rows(RECOVER["executions_to_recover"], most=most)
        return [ExecutionId(row["execution_id"]) for row in rows]

    async def next_lease_or_deadline(self) -> timedelta | None:
        async with self._database.connection() as connection:
            ends = [
                _delay(await connection.row(RECOVER["next_lease_end"])),
                _delay(await connection.row(RECOVER["next_deadline"])),
            ]
        return min((end for end in ends if end is not None), default=None)

    async def clock(self) -> DatabaseClock:
        async with self._database.connection() as connection:
            row = await connection.row(RECOVER["clock"])
        if row is None:
            raise RuntimeError("the region row is missing: run `dispatchd migrate`")
        return DatabaseClock(timedelta(seconds=row["since_start_s"]), timedelta(seconds=row["since_region_change_s"]))

    async def ready_capabilities(self, most: int) -> list[str]:
        async with self._database.connection() as connection:
            return [row["capability"] for row in await connection.rows(RECOVER["ready_capabilities"], most=most)]

    async def ready_page(self, capability: str, after: ReadyEntry | None, most: int) -> list[ReadyEntry]:
        async with self._database.connection() as connection:
            rows = await connection.rows(
                RECOVER["ready_page"],
                capability=capability,
                after_priority=None if after is None else after.priority,
                after_due_at=None if after is None else after.due_at,
                after_id=None if after is None else after.execution_id,
                most=most,
            )
        return [_entry(row) for row in rows]

    async def oldest_of_each_queue(self, after: tuple[str, int], most: int) -> list[QueueAge]:
        async with self._database.connection() as connection:
            rows = await connection.rows(
                RECOVER["oldest_of_each_queue"], after_capability=after[0], after_priority=after[1], most=most
            )
        return [QueueAge(row["capability"], row["priority"], timedelta(seconds=row["age_s"])) for row in rows]

    async def delete_finished(self, states: Sequence[JobState], keep: timedelta, most: int, fence: RegionFence) -> int:
        async with self._database.transaction() as connection:
            rows = await connection.rows(
                RETENTION["lock_finished_jobs"],
                states=list(states),
                keep_us=microseconds(keep),
                most=most,
                most_bytes=_DELETED_BYTES,
                **fence_values(fence),
            )
            job_ids = [row["job_id"] for row in rows]
            if job_ids:
                await connection.run(RETENTION["delete_jobs"], job_ids=job_ids)
        return len(job_ids)

    async def delete_sessions_and_workers(self, keep: timedelta, most: int, fence: RegionFence) -> int:
        values = {"keep_us": microseconds(keep), **fence_values(fence)}
        async with self._database.connection() as connection:
            workers = await connection.rows(RETENTION["delete_unseen_workers"], most=most, **values)
            sessions = await connection.rows(RETENTION["delete_ended_sessions"], most=most, **values)
        return len(workers) + len(sessions)


class PostgresRegionStore:
    """Fulfils `RegionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> RegionRow:
        async with self._database.connection() as connection:
            row = await connection.row(REGION["region"])
        if row is None:
            raise RuntimeError("the region row is missing: run `dispatchd migrate`")
        return region_row(row)


def region_row(row: Record) -> RegionRow:
    return RegionRow(row["primary_region"], row["epoch"], RegionMode(row["mode"]), row["changed_at"])


def _entry(row: Record) -> ReadyEntry:
    return ReadyEntry(ExecutionId(row["execution_id"]), row["capability"], row["priority"], row["due_at"])


def _delay(row: Record | None) -> timedelta | None:
    return None if row is None or row["seconds"] is None else timedelta(seconds=row["seconds"])
