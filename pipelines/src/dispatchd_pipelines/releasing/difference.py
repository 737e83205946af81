"""What has changed since the last release, and what that asks of CHANGELOG.md and of the next version.

A name that is new needs an entry. One that is gone, or that means something else, has to be named in the part
"Compatibility" as well, for whoever used it. The contract only grows: clients of every release keep working.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispatchd_pipelines.releasing.changelog import COMPATIBILITY, Section
from dispatchd_pipelines.releasing.surface import AREAS, CONTRACT, Surface
from dispatchd_pipelines.releasing.version import Version

_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """Names by what became of them."""

    new: Sequence[str]
    changed: Sequence[str]
    gone: Sequence[str]
    broken_contract: Sequence[str]
    """Those of the contract that are gone or changed."""

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone or self.broken_contract)


def difference(before: Surface | None, after: Surface) -> Difference:
    """Before the first release (None) everything is new."""
    new, changed, gone = [], [], []
    broken = []
    for area in AREAS:
        then, now = {} if before is None else before[area], after[area]
        new += sorted(now.keys() - then.keys())
        lost = sorted(then.keys() - now.keys())
        other = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
        if area == CONTRACT:
            broken += [*lost, *other]
        else:
            gone += lost
            changed += other
    return Difference(new, changed, gone, broken)


def demands(found: Difference, unreleased: Section) -> list[str]:
    """What CHANGELOG.md, or the contract, still lacks; a line each."""
    lines = [f"proto: {name} is gone or changed: a released contract only grows" for name in found.broken_contract]
    if found and not unreleased.parts:
        lines.append(f"CHANGELOG.md: nothing stands under Unreleased, but since the last release {_summary(found)}")
    untold = [name for name in (*found.changed, *found.gone) if not _is_named(name, unreleased.compatibility)]
    if untold:
        lines.append(
            f"CHANGELOG.md: name these under Unreleased in '### {COMPATIBILITY}', and say what their users have to do:"
            f" {_shown(untold)}"
        )
    return lines


def least_version(last: Version, found: Difference) -> Version:
    """The least version that may carry this difference. While it is 0.x a minor version may take something away."""
    if found.gone and last.major > 0:
        return last.next_major()
    if found.new or found.changed or found.gone:
        return last.next_minor()
    return Version(last.major, last.minor, last.patch + 1)


def _is_named(name: str, text: str) -> bool:
    """Whether the text names it in backticks, or the class that it belongs to."""
    return bool({name, name.partition(".")[0]} & set(re.findall(r"`([^`]+)`", text)))


def _summary(found: Difference) -> str:
    counted = [("new", found.new), ("changed", found.changed), ("gone", found.gone)]
    return "; ".join(f"{word}: {_shown(names)}" for word, names in counted if names) or "the contract has changed"


def _shown(names: Iterable[str]) -> str:
    all_names = list(names)
    rest = len(all_names) - _MOST_SHOWN
    return ", ".join(all_names[:_MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
