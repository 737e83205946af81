"""A production of two regions for the tests of `infra promote-region`: a repository, and status files of regions."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dispatchd_infra import regions
from dispatchd_infra.region_state import Regions
from dispatchd_infra.settings import Stack
from repositories import Clone, copy_of, make_clone

A, B = Stack.PROD_REGION_A, Stack.PROD_REGION_B
BRANCH = "region-switch"


def token(position: str = "0/9000028") -> str:
    """A promotion token as CloudNativePG makes it."""
    content = {
        "latestCheckpointTimelineID": "1",
        "redoWalFile": "000000010000000000000009",
        "databaseSystemIdentifier": "7427863846128943127",
        "latestCheckpointREDOLocation": position,
        "timeOfLatestCheckpoint": "Sat Nov 28 15:00:00 2026",
        "operatorVersion": "1.28.0",
    }
    return base64.b64encode(json.dumps(content).encode()).decode()


@dataclass(frozen=True)
class Production:
    """A clone on a branch for steps, that begins at the branch production."""

    clone: Clone

    @property
    def state(self) -> Regions:
        """What the files say."""
        return regions.read(regions.files_in(self.clone.root))

    def status(self, stack: Stack, **changes: object) -> str:
        """Writes a status file beside the clone and returns its path. Without changes: A is the primary, epoch 1.

        `age` is how long ago it was read, a minute if nothing is said.
        """
        age = changes.pop("age", timedelta(minutes=1))
        assert isinstance(age, timedelta)
        read_at = datetime.now(UTC) - age
        status: dict[str, object] = {
            "region": stack,
            "database": "primary" if stack is A else "replica",
            "wal_position": "0/5000060",
            "read_at": read_at.isoformat(),
            "primary_region": A,
            "epoch": 1,
            "mode": "active",
            "changed_at": read_at.isoformat(),
            "in_flight": 0,
            "latest_lease_end": None,
        }
        file = self.clone.root.parent / f"{stack}.json"
        file.write_text(json.dumps(status | changes), "utf-8")
        return str(file)

    def drained(self, **changes: object) -> list[str]:
        """The status files that open the gates of a demotion; what is changed, is so in both."""
        return [
            *("--status", self.status(A, age=timedelta(minutes=2), **{"mode": "draining", **changes})),
            *("--status", self.status(B, **{"mode": "draining", **changes})),
        ]

    def step(self, name: str, stack: Stack, *options: str) -> str:
        """Takes a step with its commit, which must succeed, and returns what was printed."""
        return self.clone.succeed("promote-region", "--step", name, "--region", stack, *options, "--commit")

    def refuse(self, name: str, stack: Stack, *options: str) -> str:
        """Takes a step that must be refused; nothing may change. Returns what was said."""
        return self.clone.refuse("promote-region", "--step", name, "--region", stack, *options, "--commit")

    def merge(self) -> None:
        """Merges the branch into production and begins another branch there."""
        self.clone.push("production")
        self.clone.git("switch", "--quiet", "--force-create", BRANCH, "origin/production")

    def demote(self) -> None:
        self.step("demote", A, *self.drained())
        self.merge()

    def promote(self) -> None:
        self.step("promote", B, "--token", token())
        self.merge()

    def promote_unplanned(self) -> None:
        self.step("promote", B, "--unplanned", "--fenced", "Roles of A are scaled to zero")
        self.merge()

    def switch(self) -> None:
        status = self.status(B, database="primary")
        self.step("switch", B, "--epoch", "2", "--status", status)
        self.merge()

    def finish(self) -> str:
        status = self.status(B, database="primary", primary_region=B, epoch=2)
        output = self.step("finish", B, "--status", status, "--gates-confirmed", "smoke")
        self.merge()
        return output

    def rebuild(self) -> None:
        self.step("rebuild", A, "--gates-confirmed", "backup", "--gates-confirmed", "volumes-deleted")
        self.merge()


def alone(folder: Path) -> Production:
    """A has a database, B none yet."""
    copy_of(_begin, folder)
    return Production(Clone(folder / "clone"))


def settled(folder: Path) -> Production:
    """A is the primary, and B follows it."""
    copy_of(_bootstrap, folder)
    return Production(Clone(folder / "clone"))


def promoted(folder: Path) -> Production:
    """A was demoted and B promoted; the roles are not switched yet."""
    copy_of(_promote, folder)
    return Production(Clone(folder / "clone"))


def _begin(folder: Path) -> None:
    clone = make_clone(folder)
    clone.succeed("promote-region", "--step", "begin", "--region", A, "--commit")
    clone.push("main")
    clone.push("production")
    clone.git("switch", "--quiet", "--create", BRANCH, "origin/production")


def _bootstrap(folder: Path) -> None:
    production = alone(folder)
    production.step("bootstrap-passive", B, "--gates-confirmed", "backup")
    production.merge()


def _promote(folder: Path) -> None:
    production = settled(folder)
    production.demote()
    production.promote()
