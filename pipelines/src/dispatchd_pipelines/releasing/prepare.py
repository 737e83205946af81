"""Makes the commit of a release: `make release VERSION=0.1.0`.

    a clean tree whose checks passed
        │  CHANGELOG.md has entries, the version is a later one that fits what has changed, no tag has it
        ▼
    one commit: CHANGELOG.md, pyproject.toml, uv.lock, docs/release/snapshot/
        │  a pull request, whose checks run on exactly this commit's files
        ▼
    the tag, which a person pushes; everything else follows from it

Nothing in the tree changes before everything was looked at and the commit stands.
"""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dispatchd_pipelines.releasing.changelog import COMPATIBILITY, Changelog
from dispatchd_pipelines.releasing.difference import demands, difference, least_version
from dispatchd_pipelines.releasing.notes import notes
from dispatchd_pipelines.releasing.project import lock_with_version, version_in, with_version
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.repository import Repository
from dispatchd_pipelines.releasing.snapshot import read_snapshot, rendered
from dispatchd_pipelines.releasing.surface import Surface
from dispatchd_pipelines.releasing.version import Version

CHECKS = ".ci/run"
PASSED = "build/checks-passed-for-tree"
"""Where `.ci/run` writes which tree it has found nothing wrong with; git ignores the file."""

_CHANGELOG, _PROJECT, _LOCK = "CHANGELOG.md", "pyproject.toml", "uv.lock"
_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Offer:
    """What the tree offers its users: the surface, and the descriptor image of the contract in it."""

    surface: Surface
    image: bytes


def prepare(root: Path, text: str, day: date, read_offer: Callable[[], Offer], progress: Callable[[str], None]) -> None:
    """Commits the release, and says what to do next. Raises Refused, and then nothing has changed."""
    version = Version.parse(text)
    repository = Repository(root)
    _refuse_if_changed(repository)
    changelog = Changelog.parse((root / _CHANGELOG).read_text("utf-8"))
    written = version_in((root / _PROJECT).read_text("utf-8"))
    _refuse_if_not_later(version, changelog.last_release, written, repository.tags())
    if not changelog.unreleased.parts:
        raise Refused(f"{_CHANGELOG}: nothing stands under Unreleased: write what {version} brings")
    if not changelog.unreleased.compatibility:
        raise Refused(
            f"{_CHANGELOG}: write '### {COMPATIBILITY}' under Unreleased: what those who use the last release have to"
            " do, or that they have to do nothing"
        )
    offer = read_offer()
    _refuse_if_untold(root, version, changelog, offer.surface)
    files = _files(root, version, day, changelog, offer)
    _require_checks(repository, progress)
    repository.commit(files, f"Release {version}")
    progress(f"committed: Release {version}")
    progress(_next_steps(version))


def _refuse_if_changed(repository: Repository) -> None:
    changed = repository.changed_files()
    if changed:
        more = f" and {len(changed) - _MOST_SHOWN} more" if len(changed) > _MOST_SHOWN else ""
        raise Refused(f"the tree has changes: commit or remove them first: {', '.join(changed[:_MOST_SHOWN])}{more}")


def _refuse_if_not_later(version: Version, last: Version | None, written: Version, tags: set[str]) -> None:
    if version.tag in tags:
        raise Refused(f"the tag {version.tag} exists: a released version stays as it is, so choose a later one")
    if last is not None and version <= last:
        raise Refused(f"{version} is not later than {last}, the last release in {_CHANGELOG}")
    if version < written:
        raise Refused(f"{version} is earlier than {written}, which {_PROJECT} has already")


def _refuse_if_untold(root: Path, version: Version, changelog: Changelog, surface: Surface) -> None:
    found = difference(read_snapshot(root), surface)
    if lacking := demands(found, changelog.unreleased):
        raise Refused("\n".join(lacking))
    last = changelog.last_release
    if last is not None and version < (least := least_version(last, found)):
        raise Refused(f"{version} is too small a step from {last} for what has changed: the least version is {least}")


def _files(root: Path, version: Version, day: date, changelog: Changelog, offer: Offer) -> Mapping[str, bytes]:
    texts = {
        _CHANGELOG: changelog.with_release(version, day),
        _PROJECT: with_version((root / _PROJECT).read_text("utf-8"), version),
        _LOCK: lock_with_version((root / _LOCK).read_text("utf-8"), version),
    }
    # The workflow of the release asks for them later, when it would be too late to change anything.
    notes(version.tag, texts[_CHANGELOG], texts[_PROJECT])
    encoded = {path: text.encode() for path, text in texts.items()}
    return {**encoded, **rendered(offer.surface, offer.image, version)}


def _require_checks(repository: Repository, progress: Callable[[str], None]) -> None:
    """Runs all checks, unless they have passed for exactly this tree before."""
    tree, noted = repository.tree(), repository.root / PASSED
    if noted.is_file() and noted.read_text("utf-8").strip() == tree:
        progress(f"{CHECKS} has passed for this tree before")
        return
    progress(f"{CHECKS}: all checks, which takes a while")
    if subprocess.run([repository.root / CHECKS], cwd=repository.root, check=False).returncode != 0:
        raise Refused(f"{CHECKS} failed: nothing was changed")
    _refuse_if_changed(repository)
    if repository.tree() != tree:
        raise Refused(f"there was a commit while {CHECKS} ran: begin again")


def _next_steps(version: Version) -> str:
    branch = f"release-{version}"
    return (
        f"Next: open a pull request with this commit, and let its checks pass:\n"
        f"  git push origin HEAD:refs/heads/{branch}\n"
        f"When it is merged, tag what was merged; the tag starts the release:\n"
        f"  git fetch origin && git tag --annotate {version.tag} --message 'dispatchd {version}' origin/main\n"
        f"  git push origin {version.tag}"
    )
