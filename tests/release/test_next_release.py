"""The next release of this repository: its commit, made in a clone, passes the tests that look at releases."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from dispatchd_pipelines.releasing.changelog import Changelog
from dispatchd_pipelines.releasing.difference import difference, least_version
from dispatchd_pipelines.releasing.prepare import PASSED, Offer, prepare
from dispatchd_pipelines.releasing.snapshot import read_snapshot
from dispatchd_pipelines.releasing.surface.contract import contract_image
from dispatchd_pipelines.releasing.surface.tree import surface_of
from dispatchd_pipelines.releasing.unedited import check_unedited
from dispatchd_pipelines.releasing.version import Version

ROOT = Path(__file__).parents[2]
LOOKING_AT_RELEASES = (
    "tests/release/test_last_release.py",
    "tests/release/test_changelog.py",
    "tests/docs/test_release_page.py",
    "tests/docs/test_readme.py::test_links_lead_to_files_that_are_there",
)
ENTRY = "## [Unreleased]\n\n### Compatibility\n\n- Nobody has to do anything.\n\n### Added\n\n- Something.\n"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no repository to clone, only its files")
def test_the_commit_of_the_next_release_passes_the_tests_that_look_at_releases(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", "--no-tags", str(ROOT), str(clone))
    run(clone, "git", "remote", "remove", "origin")
    run(clone, "git", "config", "user.name", "A Maintainer")
    run(clone, "git", "config", "user.email", "maintainer@example.com")
    changelog = Changelog.parse((clone / "CHANGELOG.md").read_text("utf-8"))
    if not changelog.unreleased.parts:
        # As right after a release, of which the next one would be empty.
        text = changelog.text.replace("## [Unreleased]\n", ENTRY, 1)
        (clone / "CHANGELOG.md").write_text(text)
        run(clone, "git", "commit", "--quiet", "--all", "--message", "Tell what is new")
    image = contract_image(clone)
    offer = Offer(surface_of(clone, image), image)
    last = changelog.last_release
    found = difference(read_snapshot(clone), offer.surface)
    version = Version(0, 1, 0) if last is None else least_version(last, found)
    (clone / PASSED).parent.mkdir(exist_ok=True)
    (clone / PASSED).write_text(run(clone, "git", "rev-parse", "HEAD^{tree}"))

    prepare(clone, str(version), date(2026, 3, 4), lambda: offer, lambda _: None)

    assert run(clone, "git", "log", "-1", "--format=%s").strip() == f"Release {version}"
    run(clone, "git", "tag", version.tag)
    run(clone, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *LOOKING_AT_RELEASES)
    check_unedited(clone)


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout}{done.stderr}"
    return done.stdout
