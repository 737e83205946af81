"""Which region may change anything: one row in the database decides, the environment can only take rights away.

::

    primary A, epoch N, ACTIVE ──drain──▶ primary A, epoch N, DRAINING ──set──▶ primary B, epoch N+1, ACTIVE
              │          ▲                            │                                  ▲
              │          └────────drain --undo────────┘                                  │
              └───────────────────────────────set────────────────────────────────────────┘
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dispatchd.domain.errors import RegionReadOnly


class RegionMode(StrEnum):
    """DRAINING refuses new work (submits, claims) and lets what runs come to its end."""

    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class RegionRow:
    """The one row."""

    primary_region: str
    epoch: int
    mode: RegionMode
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class RegionFence:
    """What this process brings to every writing statement, which compares it with the row."""

    region: str
    epoch: int | None = None
    """REGION_EPOCH, or None when unset: then the row's epoch does not matter."""
    allow_mutations: bool = True

    def why_read_only(self, row: RegionRow) -> str | None:
        """Why this process may change nothing at all, or None."""
        if row.primary_region != self.region:
            return (
                f"region {self.region!r} is passive: the primary is {row.primary_region!r} (epoch {row.epoch}); "
                "send changes there"
            )
        if self.epoch is not None and self.epoch != row.epoch:
            return (
                f"this process was deployed for region epoch {self.epoch}, the epoch is {row.epoch}: "
                f"send changes to the primary {row.primary_region!r} after its deployment"
            )
        if not self.allow_mutations:
            return "this process is read-only: ALLOW_MUTATIONS is false"
        return None

    def why_no_new_work(self, row: RegionRow) -> str | None:
        """Why submits and claims are refused, or None."""
        if row.mode is RegionMode.DRAINING and row.primary_region == self.region:
            return (
                f"region {self.region!r} is draining (epoch {row.epoch}): new work is refused until the switch is done"
            )
        return self.why_read_only(row)

    def check_may_change(self, row: RegionRow) -> None:
        if (why := self.why_read_only(row)) is not None:
            raise RegionReadOnly(why)

    def check_takes_work(self, row: RegionRow) -> None:
        if (why := self.why_no_new_work(row)) is not None:
            raise RegionReadOnly(why)
