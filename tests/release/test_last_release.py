"""Whatever differs from what the last release promised stands in CHANGELOG.md."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from dispatchd_pipelines.releasing.changelog import Changelog, Section
from dispatchd_pipelines.releasing.difference import Difference, demands, difference, least_version
from dispatchd_pipelines.releasing.project import lock_with_version, version_in, with_version
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.snapshot import CONTRACT_IMAGE, FOLDER, read_snapshot, rendered
from dispatchd_pipelines.releasing.surface import AREAS, Surface
from dispatchd_pipelines.releasing.surface.contract import contract_image
from dispatchd_pipelines.releasing.surface.tree import surface_of
from dispatchd_pipelines.releasing.unedited import edits
from dispatchd_pipelines.releasing.version import Version
from dispatchd_pipelines.steps import step

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
LOCK = (ROOT / "uv.lock").read_text("utf-8")

EMPTY = Section("", {})
ADDED = Section("", {"Added": "- Something."})


def telling(text: str) -> Section:
    return Section("", {"Added": "- Something.", "Compatibility": text})


def surface(**areas: Mapping[str, str]) -> Surface:
    """One with these names, and a few that never differ."""
    return {area: {"Stays": "as it is", **areas.get(area, {})} for area in AREAS}


@pytest.fixture(scope="module")
def today() -> Surface:
    return surface_of(ROOT, contract_image(ROOT))


def test_what_differs_from_the_last_release_stands_in_the_changelog(today: Surface) -> None:
    assert demands(difference(read_snapshot(ROOT), today), Changelog.parse(CHANGELOG).unreleased) == []


def test_without_an_entry_the_test_above_would_fail(today: Surface) -> None:
    without = {**today, "settings": {name: text for name, text in today["settings"].items() if name != "REGION"}}
    [line] = demands(difference(without, today), EMPTY)
    assert line == "CHANGELOG.md: nothing stands under Unreleased, but since the last release new: REGION"
    assert demands(difference(without, today), ADDED) == []


def test_before_the_first_release_everything_is_new(today: Surface) -> None:
    found = difference(None, today)
    assert len(found.new) == sum(map(len, today.values()))
    assert [*found.changed, *found.gone, *found.broken_contract] == []
    assert demands(found, EMPTY) != []


def test_no_difference_needs_no_entry(today: Surface) -> None:
    assert not difference(today, today)
    assert demands(difference(today, today), EMPTY) == []


@pytest.mark.parametrize("area", [area for area in AREAS if area != "contract"])
@pytest.mark.parametrize("now", [{}, {"Client.wait": "takes something else"}])
def test_what_is_gone_or_changed_has_to_be_named_for_its_users(area: str, now: Mapping[str, str]) -> None:
    found = difference(surface(**{area: {"Client.wait": "takes something"}}), surface(**{area: now}))
    for section in (ADDED, telling("- Something was taken away."), telling("- `Client.get` waits.")):
        [line] = demands(found, section)
        assert "'### Compatibility'" in line
        assert line.endswith(": Client.wait")
    assert demands(found, telling("- `Client.wait` waits no longer.")) == []
    assert demands(found, telling("- `Client` is gone.")) == []


@pytest.mark.parametrize("now", [{}, {"dispatchd.v1.Job.job_id": "bytes = 1"}])
def test_a_released_contract_can_not_be_taken_back_whatever_the_changelog_says(now: Mapping[str, str]) -> None:
    found = difference(surface(contract={"dispatchd.v1.Job.job_id": "string = 1"}), surface(contract=now))
    assert demands(found, telling("- `dispatchd.v1.Job.job_id` is gone.")) == [
        "proto: dispatchd.v1.Job.job_id is gone or changed: a released contract only grows"
    ]


@pytest.mark.parametrize(
    ("last", "found", "least"),
    [
        ("0.1.0", Difference([], [], [], []), "0.1.1"),
        ("0.1.3", Difference(["x"], [], [], []), "0.2.0"),
        ("0.1.3", Difference([], ["x"], [], []), "0.2.0"),
        ("0.1.3", Difference([], [], ["x"], []), "0.2.0"),
        ("1.1.3", Difference([], [], [], []), "1.1.4"),
        ("1.1.3", Difference(["x"], ["x"], [], []), "1.2.0"),
        ("1.1.3", Difference([], [], ["x"], []), "2.0.0"),
    ],
)
def test_the_least_next_version_follows_from_what_has_changed(last: str, found: Difference, least: str) -> None:
    assert least_version(Version.parse(last), found) == Version.parse(least)


def write(root: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def test_a_snapshot_that_was_written_is_read_as_the_same_surface(tmp_path: Path, today: Surface) -> None:
    assert read_snapshot(tmp_path) is None
    write(tmp_path, rendered(today, contract_image(ROOT), Version(0, 1, 0)))
    assert read_snapshot(tmp_path) == today


def test_a_line_that_no_snapshot_has_is_refused(tmp_path: Path, today: Surface) -> None:
    write(tmp_path, rendered(today, contract_image(ROOT), Version(0, 1, 0)))
    (tmp_path / FOLDER / "images.txt").write_text("dispatchd-scheduler\n")
    with pytest.raises(Refused, match=r"images\.txt: 'dispatchd-scheduler'"):
        read_snapshot(tmp_path)


def test_a_folder_without_files_is_no_snapshot_and_one_without_some_is_refused(tmp_path: Path, today: Surface) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    assert read_snapshot(tmp_path) is None
    write(tmp_path, rendered(today, contract_image(ROOT), Version(0, 1, 0)))
    (tmp_path / FOLDER / "settings.txt").unlink()
    with pytest.raises(Refused, match=r"lacks settings\.txt: take it from the tag"):
        read_snapshot(tmp_path)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_snapshot_that_was_edited_or_is_missing_is_found(tmp_path: Path, today: Surface) -> None:
    git(tmp_path, "init", "--quiet")
    last = Version(0, 1, 0)
    assert edits(tmp_path, None) == []
    assert edits(tmp_path, last) == [f"{FOLDER}: there is no snapshot of 0.1.0: take it from its tag"]
    write(tmp_path, rendered(today, contract_image(ROOT), last))
    assert edits(tmp_path, last) == []
    assert len(edits(tmp_path, None)) == len(AREAS)
    assert len(edits(tmp_path, Version(0, 2, 0))) == len(AREAS) - 1
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "A release")
    git(tmp_path, "tag", "v0.1.0")
    assert edits(tmp_path, last) == []
    file = tmp_path / FOLDER / "settings.txt"
    file.write_text(file.read_text().replace("REGION: ", "REGIONS: "))
    [line] = edits(tmp_path, last)
    assert line == f"{FOLDER}/settings.txt: it is not that of 0.1.0: only `make release` writes it"


def test_the_step_names_each_edited_file_and_fails(tmp_path: Path, today: Surface) -> None:
    write(tmp_path, rendered(today, contract_image(ROOT), Version(0, 1, 0)))
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    checked = step("release-unedited")
    _, *module, name = checked.argv
    command = [sys.executable, *module, "--root", str(tmp_path), name]
    environ = {**os.environ, **checked.environment}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == len(AREAS)
    assert f"unedited: {FOLDER}/python.txt: nothing has been released" in done.stderr


def buf_breaking(image: Path) -> tuple[int, str]:
    buf = Path(sys.executable).with_name("buf")
    command: list[str | Path] = [buf, "breaking", ROOT / "proto", "--against", image]
    compared = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return compared.returncode, compared.stdout + compared.stderr


def test_buf_finds_that_clients_of_the_last_release_can_go_on(tmp_path: Path) -> None:
    image = ROOT / CONTRACT_IMAGE
    if not image.exists():
        # Before the first release it is enough that buf can read what a release would write.
        image = tmp_path / "contract.binpb"
        image.write_bytes(contract_image(ROOT))
    assert buf_breaking(image) == (0, "")


def test_buf_finds_that_clients_can_not_go_on_where_something_is_gone(tmp_path: Path) -> None:
    image = FileDescriptorSet.FromString(contract_image(ROOT))
    image.file[-1].message_type[0].field.add(name="gone", json_name="gone", number=99, type=9, label=1)
    (tmp_path / "contract.binpb").write_bytes(image.SerializeToString())
    code, complaint = buf_breaking(tmp_path / "contract.binpb")
    assert code != 0
    assert "gone" in complaint


def test_the_version_of_the_project_is_that_of_the_last_release() -> None:
    last = Changelog.parse(CHANGELOG).last_release
    # Before the first release it is the version that this will have.
    assert version_in(PROJECT) == (last or Version(0, 1, 0))
    assert lock_with_version(LOCK, version_in(PROJECT)) == LOCK


def test_another_version_changes_one_line_of_each_file() -> None:
    version = Version(98, 7, 6)
    assert version_in(with_version(PROJECT, version)) == version
    for before, after in ((PROJECT, with_version(PROJECT, version)), (LOCK, lock_with_version(LOCK, version))):
        changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
        assert changed == ['version = "98.7.6"']


def test_a_project_file_in_another_form_is_refused() -> None:
    with pytest.raises(Refused, match="found 0 times"):
        with_version(PROJECT.replace('name = "dispatchd"', 'name = "other"'), Version(1, 0, 0))
