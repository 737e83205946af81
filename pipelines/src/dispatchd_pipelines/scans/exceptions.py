"""The findings that are accepted for a time: `pipelines/exceptions.toml`, each with a reason and an end.

There is one file for all scans, and nothing else excuses a finding: no comment beside the code and no list of a
scanner's own. An entry that is over fails the scan that it belongs to, whether the finding is still there or not, and
so does one whose finding is gone.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

LONGEST = timedelta(days=366)
"""Nothing is excused for longer without somebody looking at it again."""

_FIELDS = {"scan": str, "finding": str, "reason": str, "since": date, "until": date}


class BadExceptions(Exception):
    """The file cannot be used as it is; the text names the entry and says what to change."""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """The entries of one scan that hold today: reasons by the key of the finding."""

    reasons: Mapping[str, str]


def load(text: str, scan: str, scans: Collection[str], today: date) -> Exceptions:
    """The exceptions for one of these scans. Raises BadExceptions for an entry that is malformed, over, or repeated."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadExceptions(f"exceptions.toml is no TOML: {error}") from error
    entries = content.pop("exception", [])
    if content or not isinstance(entries, list):
        raise BadExceptions("exceptions.toml has to consist of entries that begin with [[exception]]")
    reasons: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        _check(number, entry)
        if entry["scan"] not in scans:
            raise BadExceptions(
                f"entry {number} of exceptions.toml: there is no scan {entry['scan']!r}: name one of {', '.join(scans)}"
            )
        if entry["scan"] != scan:
            continue
        finding = entry["finding"]
        if entry["until"] < today:
            raise BadExceptions(
                f"the exception for {finding!r} ended on {entry['until']}: see to the finding and remove the entry, "
                "or give the entry a new date and a reason that holds today"
            )
        if finding in reasons:
            raise BadExceptions(f"{finding!r} is excused twice for the scan {scan}: leave one entry")
        reasons[finding] = entry["reason"]
    return Exceptions(reasons)


def _check(number: int, entry: object) -> None:
    named = f"entry {number} of exceptions.toml"
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        raise BadExceptions(f"{named} has to have exactly these keys: {', '.join(_FIELDS)}")
    for key, kind in _FIELDS.items():
        if type(entry[key]) is not kind:
            raise BadExceptions(f"{named}: {key} has to be a {'day' if kind is date else 'text'}")
        if kind is str and not str(entry[key]).strip():
            raise BadExceptions(f"{named}: {key} is empty")
    since, until = entry["since"], entry["until"]
    assert isinstance(since, date)
    assert isinstance(until, date)
    if not timedelta() <= until - since <= LONGEST:
        raise BadExceptions(f"{named}: it has to end after it begins, and within {LONGEST.days} days")
