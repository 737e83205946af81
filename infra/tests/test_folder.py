"""A generated folder becomes what it should be, and nothing that is somebody's own is lost."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatchd_infra.emit import Folder, header
from dispatchd_infra.folder import Difference, FolderError, Kind, differences, plan, read, remove, write

ONE = header("dev") + "kind: ConfigMap\nmetadata:\n  name: one\n"
TWO = header("dev") + "kind: ConfigMap\nmetadata:\n  name: two\n"


def folder(files: Mapping[str, str], preserve: tuple[str, ...] = ()) -> Folder:
    return Folder("gitops/overlays/dev", files, preserve)


def place(root: Path) -> Path:
    return root / "gitops" / "overlays" / "dev"


def test_writes_what_is_missing_and_then_finds_no_difference(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE, "below/two.yaml": TWO})

    assert [each.kind for each in write(tmp_path, wanted)] == [Kind.MISSING, Kind.MISSING]

    assert differences(tmp_path, wanted) == []
    assert read(tmp_path, wanted) == wanted.files
    assert (place(tmp_path) / "one.yaml").read_bytes() == ONE.encode()


def test_a_file_that_is_right_is_not_touched(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    before = (place(tmp_path) / "one.yaml").stat()

    assert write(tmp_path, wanted) == []

    after = (place(tmp_path) / "one.yaml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_edited_file_is_named_and_restored(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    (place(tmp_path) / "one.yaml").write_text(ONE + "data: {}\n")

    assert differences(tmp_path, wanted) == [Difference("gitops/overlays/dev/one.yaml", Kind.EDITED)]
    write(tmp_path, wanted)

    assert (place(tmp_path) / "one.yaml").read_text() == ONE


def test_changed_line_ends_are_a_difference(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    (place(tmp_path) / "one.yaml").write_bytes(ONE.replace("\n", "\r\n").encode())

    assert [each.kind for each in differences(tmp_path, wanted)] == [Kind.EDITED]


def test_a_file_no_longer_listed_goes_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path, folder({"one.yaml": ONE, "below/two.yaml": TWO}))

    assert write(tmp_path, folder({"one.yaml": ONE})) == [
        Difference("gitops/overlays/dev/below/two.yaml", Kind.LEFT_OVER)
    ]

    assert not (place(tmp_path) / "below").exists()


def test_a_file_may_take_the_place_of_a_folder_and_a_folder_that_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, folder({"a.yaml/one.yaml": ONE, "b.yaml": TWO}))
    wanted = folder({"a.yaml": ONE, "b.yaml/two.yaml": TWO})

    write(tmp_path, wanted)

    assert differences(tmp_path, wanted) == []


@pytest.mark.parametrize("name", ["notes.yaml", "one.yaml"])
def test_a_stray_file_stops_the_writing_before_it_begins(tmp_path: Path, name: str) -> None:
    write(tmp_path, folder({"two.yaml": TWO}))
    (place(tmp_path) / name).write_text("somebody's own work\n")

    with pytest.raises(FolderError, match=f"gitops/overlays/dev/{name}: this file was not generated"):
        write(tmp_path, folder({"one.yaml": ONE}))

    assert (place(tmp_path) / name).read_text() == "somebody's own work\n"
    assert (place(tmp_path) / "two.yaml").exists()
    assert {each.path: each.kind for each in differences(tmp_path, folder({"two.yaml": TWO}))} == {
        f"gitops/overlays/dev/{name}": Kind.STRAY
    }


def test_preserved_files_are_left_alone(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE}, preserve=("images/*",))
    write(tmp_path, wanted)
    (place(tmp_path) / "images").mkdir()
    (place(tmp_path) / "images" / "kustomization.yaml").write_text("images: []\n")

    assert differences(tmp_path, wanted) == []
    assert read(tmp_path, wanted) == {"one.yaml": ONE}
    remove(tmp_path, wanted)

    assert [each.relative_to(place(tmp_path)).as_posix() for each in place(tmp_path).rglob("*")] == [
        "images",
        "images/kustomization.yaml",
    ]


def test_removing_leaves_what_was_not_generated(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    (place(tmp_path) / "notes.md").write_text("mine\n")

    remove(tmp_path, wanted)

    assert [each.name for each in place(tmp_path).iterdir()] == ["notes.md"]


def test_a_folder_that_is_gone_reads_as_gone(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    remove(tmp_path, wanted)

    assert read(tmp_path, wanted) is None
    assert not place(tmp_path).exists()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    wanted = folder({"one.yaml": ONE})
    write(tmp_path, wanted)
    (place(tmp_path) / ".two.yaml.4711.unfinished").write_text("# Gener")

    assert [each.kind for each in write(tmp_path, wanted)] == [Kind.LEFT_OVER]

    assert [each.name for each in place(tmp_path).iterdir()] == ["one.yaml"]


def test_a_link_in_the_place_of_a_file_is_stray_and_its_target_is_not_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(ONE)
    place(tmp_path).mkdir(parents=True)
    (place(tmp_path) / "one.yaml").symlink_to(outside)

    with pytest.raises(FolderError, match="was not generated"):
        write(tmp_path, folder({"one.yaml": ONE}))

    assert outside.read_text() == ONE


def test_a_linked_folder_does_not_lead_out_of_the_repository(tmp_path: Path) -> None:
    root, outside = tmp_path / "repository", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "gitops").symlink_to(outside)

    with pytest.raises(FolderError, match="a symbolic link leads out of the repository"):
        write(root, folder({"one.yaml": ONE}))

    assert list(outside.iterdir()) == []


def test_a_linked_folder_is_refused_inside_the_repository_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "gitops" / "overlays").mkdir(parents=True)
    place(tmp_path).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderError, match="gitops/overlays/dev: this is a symbolic link"):
        write(tmp_path, folder({"one.yaml": ONE}))

    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["gitops", "gitops/overlays", "gitops/overlays/dev"])
def test_a_file_in_the_place_of_the_folder_is_refused_by_its_name(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()

    with pytest.raises(FolderError, match=f"^{path}: a folder is needed"):
        plan(tmp_path, folder({"one.yaml": ONE}))


def test_a_pipe_is_stray_and_nobody_waits_for_it(tmp_path: Path) -> None:
    place(tmp_path).mkdir(parents=True)
    os.mkfifo(place(tmp_path) / "one.yaml")

    with pytest.raises(FolderError, match="was not generated"):
        write(tmp_path, folder({"one.yaml": ONE}))


def test_a_read_only_folder_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place(tmp_path) / "below").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != place(tmp_path) / "below")

    with pytest.raises(FolderError, match=r"gitops/overlays/dev/below/two.yaml: .* is read-only"):
        write(tmp_path, folder({"one.yaml": ONE, "below/two.yaml": TWO}))

    assert not (place(tmp_path) / "one.yaml").exists()


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(Path, "replace", replace)

    with pytest.raises(FolderError, match=r"one\.yaml: this can't be written: No space left"):
        write(tmp_path, folder({"one.yaml": ONE}))


def test_a_root_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no such folder to write gitops/overlays/dev into"):
        write(tmp_path / "nowhere", folder({"one.yaml": ONE}))
