"""The notes of a release are its section of CHANGELOG.md, and only where tag, version and section agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dispatchd_pipelines.releasing.notes import notes
from dispatchd_pipelines.releasing.refused import Refused

ROOT = Path(__file__).parents[2]
PROJECT = '[project]\nname = "dispatchd"\nversion = "0.2.0"\n'
CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-02-03

### Compatibility

- Nothing to do.

### Added

- Something.

## [0.1.0] - 2026-01-02

### Added

- The beginning.
"""
SECTION = "### Compatibility\n\n- Nothing to do.\n\n### Added\n\n- Something.\n"
DIGEST = f"sha256:{'ab' * 32}"
IMAGES = [
    {
        "service": "scheduler",
        "ref": "ghcr.io/dispatchd/dispatchd-scheduler:v0.2.0",
        "digest": DIGEST,
        "platforms": ["linux/amd64", "linux/arm64"],
    }
]


def test_the_notes_are_the_section_of_the_version() -> None:
    assert notes("v0.2.0", CHANGELOG, PROJECT) == SECTION


def test_images_are_listed_with_their_digests() -> None:
    text = notes("v0.2.0", CHANGELOG, PROJECT, json.dumps(IMAGES))
    assert text.startswith(SECTION)
    row = f"| scheduler | `ghcr.io/dispatchd/dispatchd-scheduler:v0.2.0@{DIGEST}` | linux/amd64, linux/arm64 |"
    assert text.splitlines()[-1] == row


def test_a_reference_that_has_its_digest_already_is_listed_once() -> None:
    images = [{**IMAGES[0], "ref": f"{IMAGES[0]['ref']}@{DIGEST}"}]
    assert notes("v0.2.0", CHANGELOG, PROJECT, json.dumps(images)).count(DIGEST) == 1


def test_a_later_commit_that_has_more_to_tell_is_not_the_one_to_tag() -> None:
    later = CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n### Added\n\n- Later.\n")
    with pytest.raises(Refused, match=r"tag the commit that released 0\.2\.0, and no later one"):
        notes("v0.2.0", later, PROJECT)


@pytest.mark.parametrize(
    ("tag", "project", "changelog", "complaint"),
    [
        ("0.2.0", PROJECT, CHANGELOG, "is no tag of a release"),
        ("v0.1.0", PROJECT, CHANGELOG, "pyproject.toml has the version 0.2.0"),
        ("v0.3.0", PROJECT.replace("0.2.0", "0.3.0"), CHANGELOG, r"no section for 0\.3\.0.*: 0\.2\.0, 0\.1\.0"),
        ("v0.1.0", PROJECT.replace("0.2.0", "0.1.0"), CHANGELOG, "of 0.1.0 has no part '### Compatibility'"),
    ],
)
def test_tag_version_and_section_have_to_agree(tag: str, project: str, changelog: str, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        notes(tag, changelog, project)


@pytest.mark.parametrize(
    "images",
    [
        "no JSON",
        "[]",
        "{}",
        '["scheduler"]',
        json.dumps([{**IMAGES[0], "ref": "ghcr.io/dispatchd/dispatchd-scheduler:v0.1.0"}]),
        json.dumps([{key: value for key, value in IMAGES[0].items() if key != "digest"}]),
        json.dumps([{**IMAGES[0], "digest": "latest"}]),
    ],
)
def test_a_list_of_images_that_says_too_little_is_refused(images: str) -> None:
    with pytest.raises(Refused, match=r"^images\.json: "):
        notes("v0.2.0", CHANGELOG, PROJECT, images)


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # Without the packages that are installed here, as on a runner where nothing is.
    command = [sys.executable, "-S", "-m", "dispatchd_pipelines.releasing", "--root", str(root), "notes", *arguments]
    environ = {"PYTHONPATH": str(ROOT / "pipelines" / "src")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_needs_only_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    told = run(tmp_path, "--tag", "v0.2.0")
    assert (told.returncode, told.stdout, told.stderr) == (0, SECTION, "")


def test_the_command_says_in_a_line_what_is_wrong_and_prints_no_notes(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    for arguments in (["--tag", "v0.9.0"], ["--tag", "v0.2.0", "--images", str(tmp_path / "images.json")]):
        told = run(tmp_path, *arguments)
        assert (told.returncode, told.stdout, len(told.stderr.splitlines())) == (1, "", 1)
        assert told.stderr.startswith("notes: ")
