"""The environment variables of the roles: the roles' own code is asked which ones it reads, and as what."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from dispatchd.entrypoints.durations import format_duration
from dispatchd.entrypoints.environment import EnvironmentReader
from dispatchd.entrypoints.settings import Role, read_settings

from dispatchd_pipelines.releasing.surface import Names

_AT_START = {"HOSTNAME": "HOSTNAME"}
"""Stands in defaults for the value of another variable."""
_NO_DEFAULT, _REQUIRED = "no default", "must be set"


class _Recorder(EnvironmentReader):
    """Writes down what it is asked for. With the switches on, a role also asks for what they need."""

    def __init__(self, switches_on: bool) -> None:
        super().__init__(_AT_START)
        self.asked: dict[str, str] = {}
        self._switches_on = switches_on
        self._optional: set[str] = set()

    def _note(self, name: str, kind: str, default: object) -> None:
        is_without = default in (None, "") or name in self._optional
        self.asked[name] = f"{kind}, {_NO_DEFAULT if is_without else default}"

    def refuse_unshown(self, name: str, finding: str, advice: str) -> None:
        if finding == "is not set" and not self._switches_on:
            self.asked[name] = self.asked[name].replace(_NO_DEFAULT, _REQUIRED)

    def is_set(self, name: str) -> bool:
        """Asked before what is read only if it is there, and where it would have no effect."""
        self._optional.add(name)
        self.asked.setdefault(name, f"text, {_NO_DEFAULT}")
        return self._switches_on

    def secret(self, name: str) -> str | None:
        self._note(name, "text", None)
        return super().secret(name)

    def text(self, name: str, default: str, longest: int) -> str:
        self._note(name, f"text of at most {longest} characters", default)
        return super().text(name, default, longest)

    def name(self, name: str, default: str, longest: int) -> str:
        self._note(name, f"name of at most {longest} characters", default)
        return super().name(name, default, longest)

    def choice(self, name: str, default: str, choices: Mapping[str, str]) -> str:
        self._note(name, f"one of {' '.join(choices)}", default)
        return super().choice(name, default, choices)

    def boolean(self, name: str, default: bool) -> bool:
        self._note(name, "boolean", str(default).lower())
        return self._switches_on

    def integer(self, name: str, default: int, smallest: int, largest: int) -> int:
        self._note(name, f"whole number from {smallest} to {largest}", default)
        return super().integer(name, default, smallest, largest)

    def duration(self, name: str, default: timedelta, smallest: timedelta, largest: timedelta) -> timedelta:
        bounds = f"from {format_duration(smallest)} to {format_duration(largest)}"
        self._note(name, f"duration {bounds}", format_duration(default))
        return super().duration(name, default, smallest, largest)

    def readable_file(self, name: str, *, of_a_secret: bool = False) -> Path | None:
        self._note(name, "file", None)
        return super().readable_file(name, of_a_secret=of_a_secret)


def setting_names() -> Names:
    """Every variable with its type and default. Where roles differ in that, each one is named."""
    texts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for role in Role:
        for name, text in _asked_by(role).items():
            texts[name][text].append(role)
    return {name: _line(by_text) for name, by_text in sorted(texts.items())}


def _line(roles_by_text: Mapping[str, list[str]]) -> str:
    return "; ".join(
        text if len(roles) == len(Role) else f"{', '.join(roles)}: {text}" for text, roles in roles_by_text.items()
    )


def _asked_by(role: Role) -> dict[str, str]:
    asked: dict[str, str] = {}
    for switches_on in (True, False):
        recorder = _Recorder(switches_on)
        read_settings(role, recorder)
        asked |= {name: text for name, text in recorder.asked.items() if name not in asked or _REQUIRED in text}
    return asked
