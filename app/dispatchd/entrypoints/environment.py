"""Reads typed values from environment variables and collects every mistake instead of stopping at the first one."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from dispatchd.entrypoints.durations import format_duration, parse_duration

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_NAME = re.compile(r"[A-Za-z0-9._:/@-]+", re.ASCII)
_LONGEST_SHOWN = 80


class EnvironmentReader:
    """One pass over an environment; a variable set to the empty string counts as unset.

    A value that can't be used adds a line to `problems` and reads as its default, so that one pass finds every mistake.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def is_set(self, name: str) -> bool:
        return bool(self._environ.get(name))

    def refuse(self, name: str, advice: str) -> None:
        """Notes a mistake and shows the value that was read; not for variables that hold a secret."""
        value = self._environ.get(name, "")
        shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "…"
        self.problems.append(f"{name}: read {json.dumps(shown, ensure_ascii=False)}; {advice}")

    def refuse_unshown(self, name: str, finding: str, advice: str) -> None:
        """Notes a mistake in a variable whose value must not be shown."""
        self.problems.append(f"{name}: {finding}; {advice}")

    def secret(self, name: str) -> str | None:
        return self._environ.get(name) or None

    def secret_or_file(self, name: str) -> str | None:
        """A secret from the variable, or from the file that NAME_FILE names, without the line break at its end."""
        value, file = self.secret(name), self.readable_file(f"{name}_FILE", of_a_secret=True)
        if file is None:
            return value
        if value is not None:
            self.refuse_unshown(f"{name}_FILE", f"{name} is set too", "keep one of them.")
            return value
        try:
            return file.read_text().rstrip("\r\n") or None
        except (OSError, ValueError):
            self.refuse_unshown(
                f"{name}_FILE", "this file is no text that can be read", "write the path of another one."
            )
            return None

    def has_problem_with(self, *names: str) -> bool:
        """Whether a mistake was noted in one of these variables, or in the file of one."""
        return any(problem.startswith((f"{name}:", f"{name}_FILE:")) for name in names for problem in self.problems)

    def text(self, name: str, default: str, longest: int) -> str:
        """Any printable text."""
        value = self._environ.get(name) or default
        if len(value) > longest or not value.isprintable():
            self.refuse(name, f"write at most {longest} printable characters.")
            return default
        return value

    def name(self, name: str, default: str, longest: int) -> str:
        """A name that may stand in a Redis key, a metric label or a log line."""
        value = self._environ.get(name) or default
        if len(value) > longest or _NAME.fullmatch(value) is None:
            self.refuse(name, f"write 1 to {longest} letters, digits and the characters . _ - : / @.")
            return default
        return value

    def choice(self, name: str, default: str, choices: Mapping[str, str]) -> str:
        """One of a few words in either case; `choices` maps what may be written to what it means."""
        value = self._environ.get(name) or default
        chosen = choices.get(value.lower())
        if chosen is None:
            self.refuse(name, f"write one of {', '.join(choices)}.")
            return choices[default]
        return chosen

    def boolean(self, name: str, default: bool) -> bool:
        value = self._environ.get(name, "").lower()
        if not value:
            return default
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        self.refuse(name, "write true or false.")
        return default

    def integer(self, name: str, default: int, smallest: int, largest: int) -> int:
        value = self._environ.get(name)
        if not value:
            return default
        # int() alone would also take "1_000", " 7 " and digits of other scripts.
        if re.fullmatch(r"-?[0-9]{1,19}", value) and smallest <= int(value) <= largest:
            return int(value)
        self.refuse(name, f"write a whole number from {smallest} to {largest}.")
        return default

    def duration(self, name: str, default: timedelta, smallest: timedelta, largest: timedelta) -> timedelta:
        value = self._environ.get(name)
        if not value:
            return default
        try:
            duration = parse_duration(value)
        except ValueError:
            duration = timedelta(-1)
        if smallest <= duration <= largest:
            return duration
        self.refuse(
            name,
            "write a duration such as 500ms, 30s or 1m30s, "
            f"from {format_duration(smallest)} to {format_duration(largest)}.",
        )
        return default

    def readable_file(self, name: str, *, of_a_secret: bool = False) -> Path | None:
        """The path of a file. Where a secret belongs into it, what was read may be that secret, and is not shown."""
        value = self._environ.get(name)
        if not value:
            return None
        path = Path(value)
        try:
            with path.open("rb"):
                return path
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "this is no file name"
            finding = f"this file can't be read ({reason})"
            advice = "write the path of a file that this process may read."
            if of_a_secret:
                self.refuse_unshown(name, finding, advice)
            else:
                self.refuse(name, f"{finding}; {advice}")
            return None
