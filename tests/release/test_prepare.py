"""`make release` commits a release only from a clean tree whose checks pass, and else leaves everything as it is."""

import os
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dispatchd_pipelines.releasing.prepare import PASSED, Offer, prepare
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.repository import Repository
from dispatchd_pipelines.releasing.snapshot import FOLDER, read_snapshot
from dispatchd_pipelines.releasing.surface import AREAS, Surface
from dispatchd_pipelines.releasing.surface.contract import contract_names

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "proto" / "dispatchd-v1-baseline.binpb").read_bytes()
DAY = date(2026, 3, 4)
UNRELEASED = "### Compatibility\n\n- Nothing to do.\n\n### Added\n\n- Something.\n"
CHANGELOG = f"# Changelog\n\n## [Unreleased]\n\n{UNRELEASED}"
PROJECT = '[project]\nname = "dispatchd"\nversion = "0.1.0"\n'
LOCK = '[[package]]\nname = "dispatchd"\nversion = "0.1.0"\nsource = { editable = "." }\n'
CHECKS = "#!/bin/sh\necho run >>build/runs\n"
"""Checks that pass, and leave a mark where git ignores it."""


class Clone:
    """A small repository, and what was told while a release was made in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[str] = []
        self.settings: Mapping[str, str] = {"REGION": "text, no default"}
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "A Maintainer")
        self.git("config", "user.email", "maintainer@example.com")
        self.write("CHANGELOG.md", CHANGELOG)
        self.write("pyproject.toml", PROJECT)
        self.write("uv.lock", LOCK)
        self.write(".gitignore", "/build/\n")
        self.write("build/runs", "")
        self.checks(CHECKS)
        self.commit("Begin")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.rstrip("\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def checks(self, script: str) -> None:
        self.write(".ci/run", script)
        (self.root / ".ci/run").chmod(0o755)

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", message)

    def surface(self) -> Surface:
        areas = {area: {"Stays": "as it is"} for area in AREAS}
        return {**areas, "settings": self.settings, "contract": contract_names(IMAGE)}

    def prepare(self, version: str) -> None:
        prepare(self.root, version, DAY, lambda: Offer(self.surface(), IMAGE), self.told.append)

    def refuse(self, version: str, complaint: str) -> None:
        """Expects a refusal that leaves no trace."""
        before = self.state()
        with pytest.raises(Refused, match=complaint):
            self.prepare(version)
        assert self.state() == before

    def state(self) -> tuple[str, ...]:
        return (self.git("rev-parse", "HEAD"), self.git("status", "--porcelain"), self.git("tag"), self.git("diff"))


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_a_release_is_one_commit_with_changelog_version_and_snapshot(clone: Clone) -> None:
    clone.prepare("0.1.0")
    assert clone.git("log", "-1", "--format=%s") == "Release 0.1.0"
    assert clone.git("status", "--porcelain") == ""
    assert clone.read("CHANGELOG.md") == f"# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-03-04\n\n{UNRELEASED}"
    assert read_snapshot(clone.root) == clone.surface()
    changed = clone.git("show", "--name-only", "--format=", "HEAD").splitlines()
    # The version was 0.1.0 already, before its first release.
    assert set(changed) == {"CHANGELOG.md", *(f"{FOLDER}/{path.name}" for path in (clone.root / FOLDER).iterdir())}


def test_the_first_release_is_not_earlier_than_what_the_project_says(clone: Clone) -> None:
    clone.refuse("0.0.9", "0.0.9 is earlier than 0.1.0, which pyproject.toml has already")
    clone.prepare("0.2.0")


def test_it_makes_no_tag_and_says_how_the_release_goes_on(clone: Clone) -> None:
    clone.prepare("0.1.0")
    assert clone.git("tag") == ""
    advice = clone.told[-1]
    assert "git push origin HEAD:refs/heads/release-0.1.0" in advice
    assert "git push origin v0.1.0" in advice


def test_the_next_release_has_its_version_in_both_files_of_the_project(clone: Clone) -> None:
    clone.prepare("0.1.0")
    clone.write(
        "CHANGELOG.md", clone.read("CHANGELOG.md").replace("[Unreleased]\n", f"[Unreleased]\n\n{UNRELEASED}", 1)
    )
    clone.settings = {**clone.settings, "REGION_EPOCH": "whole number, no default"}
    clone.commit("Tell what is new")
    clone.refuse("0.1.0", "0.1.0 is not later than 0.1.0")
    clone.refuse("0.0.9", "0.0.9 is not later than 0.1.0")
    clone.refuse("0.1.1", "too small a step from 0.1.0 .* the least version is 0.2.0")
    clone.prepare("0.2.0")
    assert 'version = "0.2.0"' in clone.read("pyproject.toml")
    assert 'version = "0.2.0"' in clone.read("uv.lock")
    assert read_snapshot(clone.root) == clone.surface()


def test_what_was_taken_away_has_to_be_named(clone: Clone) -> None:
    clone.prepare("0.1.0")
    clone.write(
        "CHANGELOG.md", clone.read("CHANGELOG.md").replace("[Unreleased]\n", f"[Unreleased]\n\n{UNRELEASED}", 1)
    )
    clone.commit("Tell too little")
    clone.settings = {}
    clone.refuse("0.2.0", "name these under Unreleased in '### Compatibility'.*: REGION")


@pytest.mark.parametrize("version", ["0.1", "v0.1.0", "0.1.0-rc.1", "latest"])
def test_what_is_no_version_is_refused(clone: Clone, version: str) -> None:
    clone.refuse(version, "is no version: write MAJOR.MINOR.PATCH")


@pytest.mark.parametrize("name", ["uv.lock", "new.py"])
def test_a_tree_with_changes_is_refused(clone: Clone, name: str) -> None:
    clone.write(name, "changed")
    clone.refuse("0.1.0", f"the tree has changes: .*: {name}")


def test_a_tag_that_exists_is_refused_here_and_in_the_remote_repository(clone: Clone, tmp_path: Path) -> None:
    clone.git("tag", "v0.1.0")
    clone.refuse("0.1.0", "the tag v0.1.0 exists")
    remote = tmp_path / "build" / "origin.git"
    clone.git("init", "--quiet", "--bare", str(remote))
    clone.git("remote", "add", "origin", str(remote))
    clone.git("push", "--quiet", "origin", "v0.1.0")
    clone.git("tag", "--delete", "v0.1.0")
    clone.refuse("0.1.0", "the tag v0.1.0 exists")


def test_a_remote_repository_that_can_not_be_asked_is_a_refusal(clone: Clone) -> None:
    clone.git("remote", "add", "origin", str(clone.root / "nowhere"))
    clone.refuse("0.1.0", "git ls-remote: ")


@pytest.mark.parametrize(
    ("unreleased", "complaint"),
    [("", "nothing stands under Unreleased"), ("### Added\n\n- Something.\n", "write '### Compatibility'")],
)
def test_a_changelog_that_says_too_little_is_refused(clone: Clone, unreleased: str, complaint: str) -> None:
    clone.write("CHANGELOG.md", CHANGELOG.replace(UNRELEASED, unreleased))
    clone.commit("Say less")
    clone.refuse("0.1.0", complaint)


def test_failing_checks_are_a_refusal(clone: Clone) -> None:
    clone.checks("#!/bin/sh\nexit 1\n")
    clone.commit("Fail")
    clone.refuse("0.1.0", "failed: nothing was changed")


def test_checks_that_have_passed_for_this_tree_are_not_run_again(clone: Clone) -> None:
    clone.write(PASSED, f"{clone.git('rev-parse', 'HEAD^{tree}')}\n")
    clone.prepare("0.1.0")
    assert clone.read("build/runs") == ""


def test_checks_that_have_passed_for_another_tree_count_for_nothing(clone: Clone) -> None:
    clone.write(PASSED, f"{clone.git('rev-parse', 'HEAD^{tree}')}\n")
    clone.write("more.py", "")
    clone.commit("Change something")
    clone.prepare("0.1.0")
    assert clone.read("build/runs") == "run\n"


def test_a_commit_while_the_checks_run_is_a_refusal(clone: Clone) -> None:
    clone.checks(f"{CHECKS}git commit --quiet --allow-empty-message --message '' uv.lock\n")
    clone.commit("Commit while running")
    clone.checks(clone.read(".ci/run").replace("git commit", "echo >>uv.lock && git commit"))
    clone.commit("Commit something while running")
    with pytest.raises(Refused, match="there was a commit while"):
        clone.prepare("0.1.0")


def test_a_commit_that_fails_leaves_everything_as_it_was(clone: Clone) -> None:
    clone.git("config", "user.name", "")
    clone.refuse("0.1.0", "git commit-tree: .*empty ident name")
    assert not (clone.root / "docs").exists()
    clone.git("config", "user.name", "A Maintainer")
    clone.prepare("0.1.0")
    assert clone.git("log", "-1", "--format=%an: %s") == "A Maintainer: Release 0.1.0"


def test_until_the_commit_stands_nothing_in_the_tree_has_changed(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody presses Ctrl-C, or the machine stops, right before."""

    git = Repository.git

    def interrupting(self: Repository, *arguments: str, **options: Any) -> str:
        if arguments[0] == "merge":
            raise KeyboardInterrupt
        return git(self, *arguments, **options)

    monkeypatch.setattr(Repository, "git", interrupting)
    before = clone.state()
    with pytest.raises(KeyboardInterrupt):
        clone.prepare("0.1.0")
    assert clone.state() == before
    assert not (clone.root / "docs").exists()


def test_the_commit_is_signed_where_git_signs_commits(clone: Clone) -> None:
    clone.git("config", "commit.gpgsign", "true")
    clone.git("config", "gpg.program", "false")
    clone.refuse("0.1.0", "git commit-tree: .*gpg failed to sign")


def test_a_project_file_in_another_form_is_refused_before_anything_is_written(clone: Clone) -> None:
    clone.write("uv.lock", LOCK.replace("dispatchd", "other"))
    clone.commit("Lose the package")
    clone.refuse("0.1.0", "uv.lock: the version of dispatchd has to follow its name")


PASSES = "#!/bin/sh\necho 'passed    1.0 s  test: 3 passed'\n"


@pytest.mark.parametrize(
    ("make", "change", "is_noted"),
    [
        (PASSES, "", True),
        (PASSES, "echo >>uv.lock", False),
        (f"{PASSES}echo >>uv.lock\n", "", False),
        (f"{PASSES}exit 1\n", "", False),
    ],
    ids=["all passes", "changes before", "changes meanwhile", "a failure"],
)
def test_the_checks_note_the_tree_only_if_all_has_passed_and_nothing_has_changed(
    clone: Clone, make: str, change: str, is_noted: bool
) -> None:
    clone.checks((ROOT / ".ci" / "run").read_text())
    clone.commit("Take the real script")
    clone.write("build/make", make)
    (clone.root / "build" / "make").chmod(0o755)
    environ = {**os.environ, "PATH": f"{clone.root / 'build'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        ["sh", "-c", f"{change or ':'}; .ci/run"], cwd=clone.root, env=environ, capture_output=True, check=False
    )
    noted = clone.root / PASSED
    assert noted.exists() == is_noted
    if is_noted:
        assert noted.read_text().strip() == clone.git("rev-parse", "HEAD^{tree}")
