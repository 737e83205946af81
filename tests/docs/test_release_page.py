"""docs/release.md says of versions, commands and files what the release program does."""

import re
import shlex
from pathlib import Path

import pytest

from dispatchd_pipelines.releasing.__main__ import main
from dispatchd_pipelines.releasing.snapshot import FOLDER
from dispatchd_pipelines.releasing.surface import AREAS
from dispatchd_pipelines.releasing.surface.delivery import image_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "release.md").read_text("utf-8")
FLOWING = " ".join(PAGE.split())


def test_the_table_has_a_row_for_every_area_and_names_every_image() -> None:
    [table] = re.findall(r"^\| What \| .*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert len(table.splitlines()) == len(AREAS)
    assert [name for name in image_names(ROOT) if f"`{name}`" not in table] == []


def test_the_folder_of_the_snapshot_is_named() -> None:
    assert f"`{FOLDER}/`" in PAGE


def test_the_verb_takes_a_version() -> None:
    assert "$ make release VERSION=" in PAGE
    [recipe] = re.findall(r"^release: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert 'dispatchd_pipelines.releasing prepare "$(VERSION)"' in recipe


def test_the_command_for_notes_is_taken_as_it_stands_there(capsys: pytest.CaptureFixture[str]) -> None:
    [arguments] = re.findall(
        r"^ *\$ PYTHONPATH=pipelines/src python3 -m dispatchd_pipelines\.releasing (.*)$", PAGE, re.M
    )
    # 1 says what does not agree, as before a release; a usage error would be a SystemExit.
    assert main(shlex.split(arguments)) in (0, 1)
    printed = capsys.readouterr()
    assert printed.out or printed.err.startswith("notes: ")


@pytest.mark.parametrize("name", ["CHANGELOG.md", "pyproject.toml", "uv.lock", ".ci/run"])
def test_the_files_of_a_release_are_named_and_are_there(name: str) -> None:
    assert name in FLOWING
    assert (ROOT / name).is_file()
