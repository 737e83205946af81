"""Durations as people write them: `500ms`, `30s`, `1m30s`, `24h`."""

import re
from datetime import timedelta

_PARTS = re.compile(
    r"(?:(?P<hours>\d+(?:\.\d+)?)h)?"
    r"(?:(?P<minutes>\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)s)?"
    r"(?:(?P<milliseconds>\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_UNITS = (
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
    ("ms", timedelta(milliseconds=1)),
)


def parse_duration(text: str) -> timedelta:
    """Reads a duration: numbers with the units h, m, s and ms, the largest first.

    Raises:
        ValueError: if the text is anything else, or is longer than a `timedelta` can hold.
    """
    match = _PARTS.fullmatch(text)
    if not text or match is None:
        raise ValueError("this is no duration")
    parts = {unit: float(number) for unit, number in match.groupdict().items() if number is not None}
    try:
        return timedelta(**parts)
    except OverflowError as exc:
        raise ValueError("this duration is too long") from exc


def format_duration(duration: timedelta) -> str:
    """Writes a duration so that `parse_duration` reads it back to the millisecond."""
    rest = duration
    written = ""
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            written += f"{count}{unit}"
    return written or "0s"
