"""What `dispatchd dev` shows: each line with the name of its process in front, log lines written out for people."""

import json
from collections.abc import Callable

_WIDTH = 17
_COLOURS = {"control-plane": 36, "scheduler": 35, "worker-gateway": 32, "dev": 33}
_RED, _FAINT = 31, 2
_SHOWN_ELSEWHERE = frozenset({"time", "level", "logger", "message", "role", "region", "instance_id", "exception"})


class DevLog:
    """Writes one readable line for every line of a process; with colours if `coloured`."""

    def __init__(self, write: Callable[[str], object], coloured: bool) -> None:
        self._write = write
        self._coloured = coloured

    def __call__(self, name: str, line: str) -> None:
        role = name.rstrip("0123456789").rstrip("-")
        prefix = self._paint(f"{name:<{_WIDTH}} |", _COLOURS.get(role, 0))
        for text in self._readable(line):
            self._write(f"{prefix} {text}\n")

    def _readable(self, line: str) -> list[str]:
        """A log line of a role as text; anything else as it is."""
        try:
            entry = json.loads(line)
        except ValueError:
            return [line]
        if not isinstance(entry, dict) or not {"time", "level", "message"} <= entry.keys():
            return [line]
        level = str(entry["level"])
        clock = str(entry["time"])[11:23]
        fields = " ".join(f"{name}={_plain(value)}" for name, value in entry.items() if name not in _SHOWN_ELSEWHERE)
        head = f"{clock} {self._paint(f'{level:<7}', _RED if level in ('error', 'critical') else 0)} {entry['message']}"
        lines = [f"{head} {self._paint(fields, _FAINT)}".rstrip()]
        return lines + str(entry.get("exception", "")).splitlines()

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour and text else text


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text and text.isprintable() and " " not in text else json.dumps(text, ensure_ascii=False)
