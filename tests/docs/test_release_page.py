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
WORKFLOW = ROOT / ".github" / "workflows" / "release-gitops.yml"
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


def test_signatures_are_asked_for_by_the_name_of_the_workflow_that_makes_them() -> None:
    identities = re.findall(r"--certificate-identity https://github\.com/\S+?/(\.github/\S+)@refs/tags/v", PAGE)
    assert len(identities) == 2
    assert {ROOT / path for path in identities} == {WORKFLOW}
    steps = WORKFLOW.read_text("utf-8")
    for made in ("cosign sign ", "cosign attest --yes --type cyclonedx ", "uses: actions/attest-build-provenance@"):
        assert made in steps


def test_the_workflow_asks_for_the_notes_by_the_command_on_the_page() -> None:
    called = re.findall(r"python3 -m dispatchd_pipelines\.releasing (notes [^>\n]+)", WORKFLOW.read_text("utf-8"))
    assert len(called) == 2
    for arguments in called:
        # A usage error would be a SystemExit.
        assert main(shlex.split(arguments.replace("$GITHUB_REF_NAME", "v0.0.0"))) == 1


def test_what_has_to_be_set_up_is_what_the_workflow_reads() -> None:
    steps = WORKFLOW.read_text("utf-8")
    read = set(re.findall(r"(?:vars|secrets)\.([A-Z_]+)", steps)) - {"GITHUB_TOKEN"}
    assert read == set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE))
    assert "environment: pypi" in steps
    assert "its environment `pypi`" in PAGE
