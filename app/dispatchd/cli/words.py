"""Times, durations and foreign texts as people read them on one line."""

from datetime import UTC, datetime, timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_MISSING = "-"


def duration_in_words(duration: timedelta | None) -> str:
    """The two largest units: `1d 3h`, `4m 20s`, `12s`; below ten seconds with a fraction, below one in milliseconds."""
    if duration is None:
        return _MISSING
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    rest = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if parts or count:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0")) or "0s"


def time_in_words(time: datetime | None) -> str:
    """In UTC, to the second."""
    return _MISSING if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def age_in_words(time: datetime | None, now: datetime | None = None) -> str:
    """How long ago a time was, by this machine's clock."""
    if time is None:
        return _MISSING
    age = (now or datetime.now(UTC)) - time
    return f"in {duration_in_words(-age)}" if age < timedelta(0) else f"{duration_in_words(age)} ago"


def on_one_line(text: str) -> str:
    """A foreign text without line breaks and control characters, which could move the cursor of a terminal."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def counted(count: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
