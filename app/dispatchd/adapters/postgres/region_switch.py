"""The region row as an operator changes it, and the transactions that may still write under an earlier one."""

from datetime import datetime, timedelta

from dispatchd.adapters.postgres.database import Database, Record
from dispatchd.adapters.postgres.queries import REGION
from dispatchd.adapters.postgres.recovery import region_row
from dispatchd.application.ports import BatchRejected
from dispatchd.application.region_status import DatabaseKind, RegionStatus
from dispatchd.application.region_switch import (
    OpenTransaction,
    PreparedTransaction,
    RegionAccess,
    RegionSwitchRefused,
    TerminationRefused,
    WrittenRow,
)
from dispatchd.domain.region import RegionMode

_INSUFFICIENT_PRIVILEGE = "42501"


class PostgresRegionSwitchStore:
    """Fulfils `RegionSwitchStore`. Every statement is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def access(self) -> RegionAccess:
        row = await self._row("region_access")
        if row is None:
            raise RuntimeError("a select without a table has one row")
        return RegionAccess(row["role"], row["sees_activity"], row["is_read_only"])

    async def status(self) -> RegionStatus:
        row = await self._there("region_status")
        return RegionStatus(
            region_row(row),
            DatabaseKind.REPLICA if row["is_replica"] else DatabaseKind.PRIMARY,
            row["wal_position"],
            row["read_at"],
            row["in_flight"],
            row["latest_lease_end"],
        )

    async def read(self) -> WrittenRow:
        row = await self._there("region_and_its_writer")
        return WrittenRow(region_row(row), row["written_by"])

    async def change(self, primary_region: str, epoch: int, mode: RegionMode, expected_epoch: int) -> WrittenRow | None:
        row = await self._row(
            "change_region", primary_region=primary_region, epoch=epoch, mode=mode, expected_epoch=expected_epoch
        )
        return None if row is None else WrittenRow(region_row(row), row["written_by"])

    async def older_transactions(self, written_by: str, begun_by: datetime | None) -> list[OpenTransaction]:
        async with self._database.connection() as connection:
            rows = await connection.rows(REGION["older_transactions"], written_by=written_by, begun_by=begun_by)
        return [
            OpenTransaction(
                row["pid"],
                row["backend_started_at"],
                row["started_at"],
                row["user_name"],
                row["application"],
                row["state"],
                None if row["age_s"] is None else timedelta(seconds=row["age_s"]),
            )
            for row in rows
        ]

    async def prepared_transactions(self) -> list[PreparedTransaction]:
        async with self._database.connection() as connection:
            rows = await connection.rows(REGION["prepared_transactions"])
        return [PreparedTransaction(row["gid"], row["user_name"], row["prepared_at"]) for row in rows]

    async def terminate(self, transaction: OpenTransaction) -> None:
        try:
            await self._row(
                "terminate_transaction",
                pid=transaction.pid,
                backend_started_at=transaction.backend_started_at,
                started_at=transaction.started_at,
            )
        except BatchRejected as exc:
            if exc.sqlstate != _INSUFFICIENT_PRIVILEGE:
                raise
            role = (await self.access()).role
            raise TerminationRefused(
                f"the role {role} may not end the session with pid {transaction.pid}, which is of "
                f"{transaction.user or 'another user'}: grant pg_signal_backend to {role} (only a superuser can end "
                "the session of a superuser)"
            ) from exc

    async def _there(self, query: str) -> Record:
        row = await self._row(query)
        if row is None:
            raise RegionSwitchRefused("the region row is missing: run `dispatchd migrate`, which makes it")
        return row

    async def _row(self, query: str, **values: object) -> Record | None:
        async with self._database.connection() as connection:
            return await connection.row(REGION[query], **values)
