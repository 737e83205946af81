"""The logs of the roles, line by line: kept in files, and every line is looked at that should not be there."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

_FINE = ("debug", "info", "warning")
_MOST_COMPLAINTS = 20


class RoleLogs:
    """Give `take` to the installation. A line that is no JSON, an error or a traceback is a complaint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, TextIO] = {}
        self.lines = 0
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def take(self, name: str, line: str) -> None:
        """A line of a process."""
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.log").open("a", encoding="utf-8", buffering=64 * 1024)
        self._files[name].write(f"{line}\n")
        self.lines += 1
        wrong = _what_is_wrong(line)
        if wrong and len(self.complaints) < _MOST_COMPLAINTS:
            self.complaints.append(f"{name} wrote {wrong}: {line[-2_000:]}")


def _what_is_wrong(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return "what is no JSON"
    if not isinstance(entry, dict):
        return "what is no object"
    if "exception" in entry:
        return "a traceback"
    return "" if entry.get("level") in _FINE else "an error"
