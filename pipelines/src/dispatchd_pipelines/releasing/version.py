"""Version numbers of releases, by https://semver.org/spec/v2.0.0.html without pre-releases and build metadata."""

import re
from dataclasses import dataclass
from typing import Self

from dispatchd_pipelines.releasing.refused import Refused

_NUMBER = "(0|[1-9][0-9]*)"
_PLAIN = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """MAJOR.MINOR.PATCH; a greater one came later."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `1.2.3`. A pre-release is refused too, because PyPI writes it in another way than SemVer."""
        found = _PLAIN.fullmatch(text)
        if found is None:
            raise Refused(f"{text!r} is no version: write MAJOR.MINOR.PATCH, three numbers such as 0.2.0")
        return cls(int(found[1]), int(found[2]), int(found[3]))

    @classmethod
    def of_tag(cls, tag: str) -> Self:
        """Reads `v1.2.3`."""
        try:
            return cls.parse(tag.removeprefix("v") if tag.startswith("v") else "")
        except Refused:
            raise Refused(f"{tag!r} is no tag of a release: it is v and the version, such as v0.2.0") from None

    @property
    def tag(self) -> str:
        return f"v{self}"

    def next_minor(self) -> "Version":
        return Version(self.major, self.minor + 1, 0)

    def next_major(self) -> "Version":
        return Version(self.major + 1, 0, 0)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"
