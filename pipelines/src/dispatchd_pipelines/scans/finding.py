"""What a scan found, and how a scan can end without an answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that a scanner objects to."""

    rule: str
    """The scanner's name for what is wrong: B506, GHSA-…, unpinned-uses."""
    place: str
    """A file, or a package with its version."""
    message: str
    line: int = 1
    commit: str = ""
    """Where the place is in the history; empty for what is there now."""

    @property
    def key(self) -> str:
        """What an exception names: it stays the same when lines are added above."""
        return " ".join(part for part in (self.rule, self.place, self.commit[:12]) if part)

    def __str__(self) -> str:
        return f"{self.place}:{self.line}: {self.rule}: {self.message}"


class NotRun(Exception):
    """A scan could not look where it has to look, such as in a database that does not answer. It has not passed."""


class ScanFailed(Exception):
    """A scanner could not do its work, for a reason that somebody has to see to."""
