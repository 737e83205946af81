"""What a region switch has to know of a database before its next step: the row, how far the database is, who works.

A switch compares two of these, one of each region. On a primary everything that the status counts was written at or
before its position. A replica that has come to that position, or farther, therefore has all of it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dispatchd.domain.region import RegionRow


class DatabaseKind(StrEnum):
    """Whether a database takes writes of its own or replays those of another."""

    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """One database at one moment, by its own clock.

    `wal_position` is a position in the write-ahead log as Postgres writes it (`0/16B3748`): written on a primary,
    replayed on a replica. `in_flight` counts the executions that workers hold, claimed or running. `latest_lease_end`
    is when the last of the leases ends that run now, or None when none runs.
    """

    row: RegionRow
    database: DatabaseKind
    wal_position: str
    read_at: datetime
    in_flight: int
    latest_lease_end: datetime | None
