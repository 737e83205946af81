"""Switching the primary region: the row is changed by compare-and-set, and then what began before must end.

::

    row as expected? ──▶ change it and commit ──▶ look at the open transactions ──▶ none of them is left: done
          │ no                                          ▲          │ some are
          ▼                                             └── wait ──┘
    row as wanted? ──▶ an earlier run was cut short: go on waiting      patience is over: name them, or terminate them
          │ no
          ▼
       refuse

Writing statements read the row without a lock, so a transaction that read it before the change may still write after
it. Every such transaction has a transaction id or an old snapshot at the first look after the commit. So it is enough
to wait until the transactions of that look have ended, or show neither any more: one that begins later reads the new
row. A transaction that ends by PREPARE TRANSACTION has not ended for this purpose.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from dispatchd.application.region_status import RegionStatus
from dispatchd.domain.region import RegionMode, RegionRow

PATIENCE = timedelta(seconds=30)
AFTER_TERMINATION = timedelta(seconds=10)
LOOK_EVERY = timedelta(milliseconds=200)

# A run that goes on for an earlier one does not know when that one's commit was done, only when it began. What began
# later than this after it is left out, so that a deployment never waits for long transactions of other days.
SLOWEST_COMMIT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class RegionAccess:
    """What the database lets this role do. `role` is written as SQL wants it."""

    role: str
    sees_activity: bool
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """The region row, and the id of the transaction that wrote it."""

    row: RegionRow
    written_by: str


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction of another session that may have read the row as it was."""

    pid: int
    backend_started_at: datetime
    started_at: datetime | None
    user: str
    application: str
    state: str
    age: timedelta | None

    @property
    def identity(self) -> tuple[object, ...]:
        """The same in every look, and another one for the next transaction of the same session."""
        return self.pid, self.backend_started_at, self.started_at


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A transaction that waits for its COMMIT PREPARED, without a session."""

    gid: str
    user: str
    prepared_at: datetime


class RegionSwitchStore(Protocol):
    """The region row, and who may still write under an earlier one. May raise DatabaseUnavailable, BatchRejected."""

    async def access(self) -> RegionAccess:
        """What this role may do here."""

    async def status(self) -> RegionStatus:
        """The row and the state of the database, of one moment. Changes nothing, and works on a replica."""

    async def read(self) -> WrittenRow:
        """The row."""

    async def change(self, primary_region: str, epoch: int, mode: RegionMode, expected_epoch: int) -> WrittenRow | None:
        """Writes the row and commits, unless its epoch is not the expected one: then None."""

    async def older_transactions(self, written_by: str, begun_by: datetime | None) -> list[OpenTransaction]:
        """Those with a transaction id, or a snapshot as old as `written_by`; only those that began by a time."""

    async def prepared_transactions(self) -> list[PreparedTransaction]:
        """All of this database."""

    async def terminate(self, transaction: OpenTransaction) -> None:
        """Ends its session, unless it has ended. Raises TerminationRefused."""


class RegionSwitchRefused(Exception):
    """Nothing was changed; the text says why and what to do."""


class SwitchOvertaken(Exception):
    """The switch is done, and somebody else has changed the row again while it waited."""

    def __init__(self, row: RegionRow) -> None:
        super().__init__(
            f"somebody changed the region row again meanwhile: it says primary {row.primary_region!r}, "
            f"epoch {row.epoch}, {row.mode}"
        )


class TerminationRefused(Exception):
    """The database does not let this role end a session."""


class StillBlocked(Exception):
    """The row is changed, but the switch is not done: transactions from before are still open."""

    def __init__(self, row: RegionRow, blockers: "Blockers", waited: timedelta, note: str = "") -> None:
        super().__init__(f"the region row is changed, but not everything that began before has ended {note}".rstrip())
        self.row = row
        self.blockers = blockers
        self.waited = waited
        self.note = note


class Outcome(StrEnum):
    """What a command did to the row. RESUMED: it had the wanted value, and the wait of an earlier run was finished."""

    CHANGED = "changed"
    RESUMED = "resumed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Switched:
    """A command that came to its end."""

    row: RegionRow
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment says of regions: REGION, PRIMARY_REGION and REGION_EPOCH."""

    region: str
    primary_region: str
    epoch: int | None


class Blockers:
    """The transactions of the first look that have not ended; they can only become fewer."""

    def __init__(self, transactions: Sequence[OpenTransaction], prepared: Sequence[PreparedTransaction]) -> None:
        self.transactions = tuple(transactions)
        self.prepared = tuple(prepared)

    def __bool__(self) -> bool:
        return bool(self.transactions or self.prepared)

    def __len__(self) -> int:
        return len(self.transactions) + len(self.prepared)

    def left(self, transactions: Sequence[OpenTransaction], prepared: Sequence[PreparedTransaction]) -> "Blockers":
        """Those that a later look still shows; `prepared` was looked at after `transactions`."""
        known = {transaction.identity for transaction in self.transactions}
        still_open = [transaction for transaction in transactions if transaction.identity in known]
        # Whichever has ended may have been prepared, and then goes on there under a name of its own.
        may_be_ours = len(still_open) < len(known)
        return Blockers(still_open, [each for each in prepared if may_be_ours or each in self.prepared])


Progress = Callable[[Blockers, timedelta], None]
"""Told after each look what is left, and how long the wait has lasted."""


class RegionSwitch:
    """Reads and changes the region row; for one command at a time."""

    def __init__(
        self,
        store: RegionSwitchStore,
        *,
        patience: timedelta = PATIENCE,
        terminates: bool = False,
        progress: Progress = lambda _blockers, _waited: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._patience = patience
        self._terminates = terminates
        self._progress = progress
        self._sleep = sleep
        self._clock = clock

    async def status(self) -> RegionStatus:
        """The row and the state of the database."""
        return await self._store.status()

    async def drain(self, expected_epoch: int) -> Switched:
        """Refuses new work in the primary region. Done once no submit or claim from before is open.

        Raises RegionSwitchRefused, StillBlocked, SwitchOvertaken.
        """
        await self._check_access()
        row = await self._row_of(expected_epoch)
        return await self._switch(row.primary_region, expected_epoch, RegionMode.DRAINING, expected_epoch)

    async def undo_drain(self, expected_epoch: int) -> Switched:
        """Takes new work in the primary region again, under the same epoch.

        Done at once: what began while the region drained only refused work. Raises RegionSwitchRefused.
        """
        _check_takes_writes(await self._store.access())
        row = await self._row_of(expected_epoch)
        if row.mode is RegionMode.ACTIVE:
            return Switched(row, Outcome.UNCHANGED, "the region is not draining")
        changed = await self._store.change(row.primary_region, expected_epoch, RegionMode.ACTIVE, expected_epoch)
        if changed is None:
            raise RegionSwitchRefused(_why_not_expected((await self._store.read()).row, expected_epoch))
        return Switched(changed.row, Outcome.CHANGED)

    async def set_primary(self, primary_region: str, expected_epoch: int) -> Switched:
        """Makes a region the primary under the next epoch. Done once nothing written under the old row is open.

        Raises RegionSwitchRefused, StillBlocked, SwitchOvertaken.
        """
        await self._check_access()
        return await self._switch(primary_region, expected_epoch + 1, RegionMode.ACTIVE, expected_epoch)

    async def apply(self, deployment: Deployment) -> Switched:
        """Brings the row to what a deployment says, where that is for this deployment to do.

        Raises RegionSwitchRefused, StillBlocked, SwitchOvertaken.
        """
        access = await self._store.access()
        written = await self._store.read()
        row = written.row
        if access.is_read_only:
            return Switched(row, Outcome.UNCHANGED, "this database is read-only")
        if row.primary_region == deployment.primary_region and deployment.epoch in (None, row.epoch):
            return await self._finish_earlier(written, deployment, access)
        if (why := why_not_to_apply(deployment, row)) is not None:
            raise RegionSwitchRefused(why)
        await self._check_access()
        return await self._switch(deployment.primary_region, row.epoch + 1, RegionMode.ACTIVE, row.epoch)

    async def _row_of(self, expected_epoch: int) -> RegionRow:
        """The row, whose primary stays the same as long as its epoch does. Raises RegionSwitchRefused."""
        row = (await self._store.read()).row
        if row.epoch != expected_epoch:
            raise RegionSwitchRefused(_why_not_expected(row, expected_epoch))
        return row

    async def _finish_earlier(self, written: WrittenRow, deployment: Deployment, access: RegionAccess) -> Switched:
        """The row agrees. An earlier run of the same deployment may have set it and not have waited to the end."""
        row = written.row
        may_have_set_it = row.epoch > 1 and row.mode is RegionMode.ACTIVE and access.sees_activity
        if may_have_set_it and deployment.region == row.primary_region and deployment.epoch == row.epoch:
            await self._wait(written, begun_by=row.changed_at + SLOWEST_COMMIT)
        return Switched(row, Outcome.UNCHANGED, "the region row agrees already")

    async def _switch(self, primary_region: str, epoch: int, mode: RegionMode, expected_epoch: int) -> Switched:
        wanted = primary_region, epoch, mode
        written = await self._store.read()
        if _value(written.row) != wanted:
            changed = await self._store.change(primary_region, epoch, mode, expected_epoch)
            if changed is not None:
                await self._wait(changed, begun_by=None)
                return Switched(await self._unchanged(changed.row), Outcome.CHANGED)
            written = await self._store.read()
        if _value(written.row) != wanted:
            raise RegionSwitchRefused(_why_not_expected(written.row, expected_epoch))
        await self._wait(written, begun_by=written.row.changed_at + SLOWEST_COMMIT)
        return Switched(await self._unchanged(written.row), Outcome.RESUMED)

    async def _unchanged(self, row: RegionRow) -> RegionRow:
        now = (await self._store.read()).row
        if _value(now) != _value(row):
            raise SwitchOvertaken(now)
        return now

    async def _check_access(self) -> None:
        access = await self._store.access()
        _check_takes_writes(access)
        if not access.sees_activity:
            raise RegionSwitchRefused(
                f"the role {access.role} can't see which transactions are open, so it could not tell when a switch is "
                f"done: grant pg_read_all_stats to {access.role}"
            )

    async def _wait(self, written: WrittenRow, begun_by: datetime | None) -> None:
        """Returns once nothing is open that may have read an earlier row. Raises StillBlocked."""
        clock = self._clock
        began = clock()
        ends = began + self._patience.total_seconds()
        blockers = Blockers(*await self._look(written, begun_by))
        may_terminate = self._terminates
        while blockers:
            waited = timedelta(seconds=clock() - began)
            self._progress(blockers, waited)
            if clock() >= ends:
                if not may_terminate:
                    raise StillBlocked(written.row, blockers, waited)
                may_terminate = False
                ends = clock() + AFTER_TERMINATION.total_seconds()
                await self._terminate(written.row, blockers, waited)
            await self._sleep(LOOK_EVERY.total_seconds())
            blockers = blockers.left(*await self._look(written, begun_by))

    async def _look(
        self, written: WrittenRow, begun_by: datetime | None
    ) -> tuple[list[OpenTransaction], list[PreparedTransaction]]:
        # In this order: a transaction that is prepared in between is seen at least once.
        transactions = await self._store.older_transactions(written.written_by, begun_by)
        return transactions, await self._store.prepared_transactions()

    async def _terminate(self, row: RegionRow, blockers: Blockers, waited: timedelta) -> None:
        for transaction in blockers.transactions:
            try:
                await self._store.terminate(transaction)
            except TerminationRefused as exc:
                raise StillBlocked(row, blockers, waited, str(exc)) from exc


def _check_takes_writes(access: RegionAccess) -> None:
    if access.is_read_only:
        raise RegionSwitchRefused(
            "this database is read-only, perhaps a replica: set DATABASE_URL to the server that takes writes"
        )


def why_not_to_apply(deployment: Deployment, row: RegionRow) -> str | None:
    """Why a deployment that does not agree with the row must not change it, or None."""
    says = f"the region row says primary {row.primary_region!r}, epoch {row.epoch}"
    if deployment.epoch is None:
        return (
            f"{says}, this deployment says PRIMARY_REGION {deployment.primary_region!r} without REGION_EPOCH: "
            f"set REGION_EPOCH to {row.epoch + 1} to switch, or PRIMARY_REGION to {row.primary_region!r}"
        )
    differs = f"{says}; this deployment says {deployment.primary_region!r}, epoch {deployment.epoch}"
    if deployment.epoch < row.epoch:
        return f"{differs}: it is older than the row, bring PRIMARY_REGION and REGION_EPOCH up to date"
    if deployment.epoch == row.epoch:
        return f"{differs}: an epoch has one primary, set REGION_EPOCH to {row.epoch + 1} to switch"
    if deployment.epoch > row.epoch + 1:
        return f"{differs}: epochs are not skipped, set REGION_EPOCH to {row.epoch + 1}"
    if deployment.region != deployment.primary_region:
        return (
            f"{differs}: only the deployment of region {deployment.primary_region!r} itself may set this, "
            f"and this one is of region {deployment.region!r}; deploy there first"
        )
    return None


def _why_not_expected(row: RegionRow, expected_epoch: int) -> str:
    if row.epoch == expected_epoch:
        return "the region row was changed at the same moment: look with `dispatchd region status` and try again"
    return (
        f"the region row has epoch {row.epoch} (primary {row.primary_region!r}, {row.mode}), not {expected_epoch}: "
        "somebody else changed it; look with `dispatchd region status` before you try again"
    )


def _value(row: RegionRow) -> tuple[str, int, RegionMode]:
    return row.primary_region, row.epoch, row.mode
