"""Which production region is the primary, and what the database of each region is: the facts that a switch moves.

They are committed below `gitops/regions/`. `promotion/steps.py` draws which state leads to which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from dispatchd_infra.settings import PRODUCTION, Stack


class DatabaseRole(StrEnum):
    """What the Postgres cluster of a region is, or that there is none yet.

    A DIVERGED one was a primary while the other region was promoted without its token. It is told to be a replica, so
    that it can't write, but it can't follow either: it has to be rebuilt.
    """

    PRIMARY = "primary"
    REPLICA = "replica"
    DIVERGED = "diverged"
    ABSENT = "absent"


class Bootstrap(StrEnum):
    """How the files of a database come to be, in CloudNativePG's words: empty, or from the peer's archive."""

    INITDB = "initdb"
    RECOVERY = "recovery"


class StateRefused(ValueError):
    """This is no state that the regions may be in, or no step that leads on from it; the text says why."""


def peer_of(stack: Stack) -> Stack:
    """The other production region."""
    [peer] = [each for each in PRODUCTION if each is not stack]
    return peer


@dataclass(frozen=True, slots=True)
class RegionState:
    """The database of one region. A region has the name of its stack everywhere, in REGION too."""

    stack: Stack
    role: DatabaseRole
    bootstrap: Bootstrap
    archive: int
    """How often this region has begun an archive of its own; 0 if it never had a database.

    CloudNativePG refuses to archive into a path that holds another database's files, so each begins a new one.
    """
    token: str | None = None
    """The promotion token, which makes a replica wait until it has everything that the demoted primary wrote."""

    def __post_init__(self) -> None:
        if self.archive < 0 or (self.archive == 0 and self.role is not DatabaseRole.ABSENT):
            raise StateRefused(f"{self.stack}: archive {self.archive} does not fit a database that is {self.role}")
        if self.token is not None and self.role is not DatabaseRole.PRIMARY:
            raise StateRefused(f"{self.stack}: only a primary has a promotion token, and this database is {self.role}")

    @property
    def source(self) -> Stack:
        """The region whose archive this database is copied from, and follows while it is a replica."""
        return peer_of(self.stack)

    @property
    def server_name(self) -> str:
        """The name of this region's archive in its object store; of the first one to come if there is none yet."""
        return f"{self.stack}-{max(self.archive, 1)}"


@dataclass(frozen=True, slots=True)
class Regions:
    """Both regions, the primary that the roles are told, and the epoch of that primary."""

    primary: Stack
    epoch: int
    databases: Mapping[Stack, RegionState] = field(hash=False)

    def __post_init__(self) -> None:
        if set(self.databases) != set(PRODUCTION) or any(
            stack is not each.stack for stack, each in self.databases.items()
        ):
            raise StateRefused(f"the databases are those of {' and '.join(PRODUCTION)}, and of no other region")
        if self.primary not in PRODUCTION:
            raise StateRefused(f"PRIMARY_REGION: {self.primary} is no production region")
        if self.epoch < 1:
            raise StateRefused(f"REGION_EPOCH: {self.epoch} is less than 1, which is the first epoch")
        if len(self._with_role(DatabaseRole.PRIMARY)) > 1:
            raise StateRefused("two databases are primaries: one of them has to become a replica")

    @classmethod
    def at_first(cls, primary: Stack) -> Self:
        """One region with a new database, and none in the other."""
        first = RegionState(primary, DatabaseRole.PRIMARY, Bootstrap.INITDB, archive=1)
        other = RegionState(peer_of(primary), DatabaseRole.ABSENT, Bootstrap.RECOVERY, archive=0)
        return cls(primary, 1, {first.stack: first, other.stack: other})

    def of(self, stack: Stack) -> RegionState:
        """The database of one region."""
        return self.databases[stack]

    @property
    def primary_database(self) -> Stack | None:
        """The region whose database is the primary; None between a demotion and the promotion that follows."""
        found = self._with_role(DatabaseRole.PRIMARY)
        return found[0] if found else None

    def with_database(self, stack: Stack, **changes: object) -> Self:
        """The same, with one database changed."""
        changed = replace(self.databases[stack], **changes)  # type: ignore[arg-type]
        return replace(self, databases={**self.databases, stack: changed})

    def _with_role(self, role: DatabaseRole) -> list[Stack]:
        return [stack for stack in PRODUCTION if self.databases[stack].role is role]
