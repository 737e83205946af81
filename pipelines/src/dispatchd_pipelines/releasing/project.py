"""The version in pyproject.toml and uv.lock."""

import re
import tomllib

from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.version import Version

_PROJECT = re.compile(r'^(\[project\]\nname = "dispatchd"\nversion = )"[^"\n]*"$', re.MULTILINE)
_LOCKED = re.compile(r'^(\[\[package\]\]\nname = "dispatchd"\nversion = )"[^"\n]*"$', re.MULTILINE)


def version_in(pyproject: str) -> Version:
    """The version that pyproject.toml gives the package."""
    return Version.parse(str(tomllib.loads(pyproject)["project"]["version"]))


def with_version(pyproject: str, version: Version) -> str:
    """pyproject.toml with another version."""
    return _replaced(_PROJECT, pyproject, version, "pyproject.toml")


def lock_with_version(lock: str, version: Version) -> str:
    """uv.lock with another version of the package itself, as `uv lock` would write it."""
    return _replaced(_LOCKED, lock, version, "uv.lock")


def _replaced(pattern: re.Pattern[str], text: str, version: Version, name: str) -> str:
    after, count = pattern.subn(rf'\g<1>"{version}"', text)
    if count != 1:
        raise Refused(f"{name}: the version of dispatchd has to follow its name, once, but it was found {count} times")
    return after
