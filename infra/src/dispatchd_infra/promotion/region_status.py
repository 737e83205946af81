"""What `dispatchd region status --json` says of one region, saved as a file: all that the gates of a switch look at.

A file is good for ten minutes from the moment at which its database was read.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dispatchd_infra.settings import Stack, mistakes

OLDEST = timedelta(minutes=10)
CLOCKS_DIFFER = timedelta(minutes=1)
"""How far the clock of a region may be ahead of this machine's."""


_POSITION = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


class StatusRefused(ValueError):
    """A status file is missing or can't be used; the text says how to get a good one."""


class Serves(StrEnum):
    """What the database is, as Postgres itself says."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Mode(StrEnum):
    """Whether the primary region takes new work."""

    ACTIVE = "active"
    DRAINING = "draining"


def _position(value: object) -> int:
    """A position in the write-ahead log, in bytes; Postgres writes `16/B374D848`."""
    found = _POSITION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("write a position such as 16/B374D848")
    return (int(found[1], 16) << 32) + int(found[2], 16)


class RegionStatus(BaseModel):
    """One region, as its database and its row were when it was read."""

    model_config = ConfigDict(frozen=True)

    region: Stack
    database: Serves
    wal_position: Annotated[int, BeforeValidator(_position)]
    """Bytes: written by a primary, replayed by a replica."""
    read_at: AwareDatetime
    primary_region: str
    epoch: Annotated[int, Field(ge=1)]
    mode: Mode
    in_flight: Annotated[int, Field(ge=0)]
    """Executions that workers hold, whether their lease still runs or not."""
    latest_lease_end: AwareDatetime | None
    """When the last lease ends that ran when this was read, or None if none did."""

    @property
    def work_has_ended(self) -> bool:
        """Whether no worker held an execution under a running lease when this was read."""
        return self.in_flight == 0 or self.latest_lease_end is None or self.latest_lease_end <= self.read_at


def in_region(stack: Stack, namespace: str, command: str) -> str:
    """What an operator types to run a command of dispatchd beside the database of a region."""
    return f"kubectl --context {stack} -n {namespace} exec deploy/control-plane -- dispatchd {command}"


def read(files: Sequence[Path], now: datetime) -> dict[Stack, RegionStatus]:
    """Reads status files, one for each region at most. Raises StatusRefused, also for one older than ten minutes."""
    found: dict[Stack, RegionStatus] = {}
    for file in files:
        status = _read(file)
        if status.region in found:
            raise StatusRefused(f"{file.name}: there are two files of {status.region}; give one for each region")
        age = now - status.read_at
        if age > OLDEST:
            minutes = int(age.total_seconds() // 60)
            raise StatusRefused(f"{file.name}: this was read {minutes} minutes ago, and 10 are the most: read it again")
        if age < -CLOCKS_DIFFER:
            raise StatusRefused(f"{file.name}: this was read in the future; look at the clocks of both machines")
        found[status.region] = status
    return found


def _read(file: Path) -> RegionStatus:
    try:
        return RegionStatus.model_validate_json(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise StatusRefused(f"{file}: this file can't be read: {exc}") from exc
    except ValidationError as exc:
        lines = mistakes(exc, file.name)
        raise StatusRefused("\n".join([*lines, "Save what `dispatchd region status --json` prints."])) from exc
