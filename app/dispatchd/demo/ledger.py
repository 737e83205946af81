"""The submitter's own record of what was acknowledged, and what the database must say about it in the end.

The ledger knows nothing of the installation: it is a file with one acknowledged job id a line. It is read again from
the disk when everything is over. So a job that the installation acknowledged and then lost is found, because the
ledger still has it.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dispatchd.domain.job import JobState


class LedgerWriter:
    """Appends to a new ledger; what `append` was given is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x", encoding="ascii")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, job_ids: Iterable[str]) -> None:
        """Blocks until the disk has it."""
        self._file.writelines(f"{job_id}\n" for job_id in job_ids)
        self._file.flush()
        os.fsync(self._file.fileno())


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What became of the acknowledged jobs."""

    acknowledged: int
    vanished: tuple[str, ...]
    """Acknowledged, and the database does not know them."""
    unfinished: tuple[str, ...]
    """Acknowledged, and not ended."""

    @property
    def finished(self) -> int:
        return self.acknowledged - len(self.vanished) - len(self.unfinished)

    @property
    def holds(self) -> bool:
        """Acknowledged = finished."""
        return not self.vanished and not self.unfinished


def check_ledger(path: Path, states: Mapping[str, JobState]) -> LedgerCheck:
    """Compares the ledger on the disk with the states of all jobs in the database."""
    job_ids = dict.fromkeys(path.read_text(encoding="ascii").split())
    return LedgerCheck(
        acknowledged=len(job_ids),
        vanished=tuple(job_id for job_id in job_ids if job_id not in states),
        unfinished=tuple(job_id for job_id in job_ids if states.get(job_id) is JobState.ACTIVE),
    )
