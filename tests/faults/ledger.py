"""Ledgers: one file a process, one JSON line an event, written so that a SIGKILL leaves at most a torn last line."""

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from faults.events import Event, LedgerRole, Opened

SUFFIX = ".ledger"

E = TypeVar("E")
_codec: TypeAdapter[Event] = TypeAdapter(Event)
now_ns = time.monotonic_ns


class LedgerDamaged(Exception):
    """A line that is not the last one can't be read, or the first one does not open a ledger."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one process wrote down, in its own order, which is that of its times."""

    file: str
    opened: Opened
    events: tuple[Event, ...]

    @property
    def name(self) -> str:
        """The worker id, or the client's name."""
        return self.opened.name

    def of(self, kind: type[E]) -> Iterator[E]:
        """The events of one kind."""
        return (event for event in self.events if isinstance(event, kind))


class LedgerWriter:
    """Appends to a new ledger. An event that `note` has taken survives the process, though not the machine."""

    def __init__(self, path: Path, role: LedgerRole, name: str) -> None:
        self.process_id = secrets.token_hex(8)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self.note(Opened(now_ns(), role, name, self.process_id))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def note(self, event: Event) -> None:
        """Writes one line with one call, so that other threads and a SIGKILL can't get between its parts."""
        line = _codec.dump_json(event, warnings="error") + b"\n"
        if os.write(self._descriptor, line) != len(line):
            raise OSError("the ledger's disk is full")


def read_ledger(path: Path) -> Ledger | None:
    """Reads a ledger; None if its process did not get as far as its first line. Raises LedgerDamaged."""
    *lines, _torn = path.read_bytes().split(b"\n")
    events = [_read_line(path, number, line) for number, line in enumerate(lines, start=1)]
    if not events:
        return None
    if not isinstance(events[0], Opened):
        raise LedgerDamaged(f"{path.name} does not begin with the opening of a ledger")
    return Ledger(path.name, events[0], tuple(events[1:]))


def read_ledgers(folder: Path) -> Sequence[Ledger]:
    """Reads every ledger of a folder, by file name. Raises LedgerDamaged."""
    ledgers = (read_ledger(path) for path in sorted(folder.glob(f"*{SUFFIX}")))
    return [ledger for ledger in ledgers if ledger is not None]


def _read_line(path: Path, number: int, line: bytes) -> Event:
    try:
        return _codec.validate_json(line)
    except ValidationError as exc:
        raise LedgerDamaged(f"line {number} of {path.name} is no event: {line[:200]!r}") from exc
