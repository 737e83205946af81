"""CHANGELOG.md, in the form of https://keepachangelog.com/en/1.1.0/ with one part more, "Compatibility".

## [Unreleased]            what the next release will bring
### Compatibility          what changes for those who use the last release
### Added, Changed, …
## [0.1.0] - 2026-11-30    a release, the newest first
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Self

from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.version import Version

UNRELEASED = "Unreleased"
COMPATIBILITY = "Compatibility"
PARTS = (COMPATIBILITY, "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")

_HEADING = re.compile(r"^## (.*)\n", re.MULTILINE)
_RELEASE = re.compile(r"\[([^\]]+)\] - ([0-9]{4}-[0-9]{2}-[0-9]{2})")
_PART = re.compile(r"^### (.*)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """What one release brings, or the next one will; `text` is all of it without its heading."""

    text: str
    parts: Mapping[str, str]

    @classmethod
    def parse(cls, title: str, text: str) -> Self:
        before, *rest = _PART.split(text)
        names, texts = rest[::2], rest[1::2]
        if before.strip() or (unknown := [name for name in names if name not in PARTS]):
            found = "text outside its parts" if before.strip() else f"the part {unknown[0]!r}"
            raise Refused(f"CHANGELOG.md: {title} has {found}: write it below one of ### {', ### '.join(PARTS)}")
        parts = {name: text.strip() for name, text in zip(names, texts, strict=True)}
        if len(parts) < len(names):
            raise Refused(f"CHANGELOG.md: {title} has the same part twice")
        if empty := [name for name, text in parts.items() if not text]:
            raise Refused(f"CHANGELOG.md: {title}: the part {empty[0]!r} is empty: write an entry, or remove it")
        return cls(text.strip(), parts)

    @property
    def compatibility(self) -> str:
        return self.parts.get(COMPATIBILITY, "")


@dataclass(frozen=True, slots=True)
class Changelog:
    """The file, with its releases from the newest to the oldest."""

    text: str
    unreleased: Section
    releases: Mapping[Version, Section]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the file; Refused says which heading, part or order is wrong."""
        _, *rest = _HEADING.split(text)
        titles, texts = rest[::2], rest[1::2]
        if titles[:1] != [f"[{UNRELEASED}]"]:
            raise Refused(f"CHANGELOG.md: the first section has to be '## [{UNRELEASED}]'")
        releases: dict[Version, Section] = {}
        for title, body in zip(titles[1:], texts[1:], strict=True):
            version = _version(title)
            if releases and version >= min(releases):
                raise Refused(f"CHANGELOG.md: {version} stands below {min(releases)}: the newest release comes first")
            releases[version] = Section.parse(title, body)
        return cls(text, Section.parse(titles[0], texts[0]), releases)

    @property
    def last_release(self) -> Version | None:
        """None before the first one."""
        return max(self.releases, default=None)

    def with_release(self, version: Version, day: date) -> str:
        """The text in which everything unreleased belongs to this version."""
        heading = f"## [{UNRELEASED}]\n"
        return self.text.replace(heading, f"{heading}\n## [{version}] - {day.isoformat()}\n", 1)


def _version(title: str) -> Version:
    found = _RELEASE.fullmatch(title)
    if found is None:
        raise Refused(f"CHANGELOG.md: '## {title}' is no release: write '## [0.1.0] - 2026-11-30'")
    try:
        date.fromisoformat(found[2])
    except ValueError:
        raise Refused(f"CHANGELOG.md: '## {title}': there is no such day") from None
    return Version.parse(found[1])
