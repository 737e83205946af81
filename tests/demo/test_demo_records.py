"""What the demo reads from the RECORD files of installed distributions, and what a worker says of a file."""

import base64
import hashlib
from pathlib import Path

import pytest

from dispatchd import Fail
from dispatchd.demo.records import ListedFile, read_sites
from dispatchd.demo.tasks import check_file

DIGEST = base64.urlsafe_b64encode(hashlib.sha256(b"hello").digest()).decode().rstrip("=")


def record(site: Path, distribution: str, *lines: str) -> None:
    folder = site / f"{distribution}.dist-info"
    folder.mkdir(parents=True)
    (folder / "RECORD").write_text("".join(f"{line}\n" for line in lines))


def listed(file: Path, sha256: str = DIGEST) -> ListedFile:
    return ListedFile("demo-1.0", file.name, file, sha256)


def test_every_file_with_a_sha256_is_listed_with_where_it_is(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "site-packages"
    record(
        site,
        "demo-1.0",
        f"demo/__init__.py,sha256={DIGEST},5",
        f"../../bin/demo,sha256={DIGEST}=,5",
        f'"demo/a, b.txt",sha256={DIGEST},5',
    )
    files = read_sites([site])
    assert [(file.path, file.file.relative_to(tmp_path).as_posix()) for file in files] == [
        ("demo/__init__.py", "lib/site-packages/demo/__init__.py"),
        ("../../bin/demo", "bin/demo"),
        ("demo/a, b.txt", "lib/site-packages/demo/a, b.txt"),
    ]
    assert {(file.distribution, file.sha256) for file in files} == {("demo-1.0", DIGEST)}


def test_lines_without_a_sha256_are_left_out(tmp_path: Path) -> None:
    record(
        tmp_path,
        "demo-1.0",
        "demo-1.0.dist-info/RECORD,,",
        "demo/__pycache__/x.cpython-311.pyc,,",
        "demo/old.py,md5=XrY7u-Ae7tCTyyK7j1rNww,5",
        "demo/strong.py,sha512=abc,5",
        "only-a-name",
        "",
    )
    assert read_sites([tmp_path]) == []


def test_what_two_records_list_alike_comes_once(tmp_path: Path) -> None:
    record(tmp_path, "a-1.0", f"shared/__init__.py,sha256={DIGEST},5")
    record(tmp_path, "b-1.0", f"shared/__init__.py,sha256={DIGEST},5", "shared/__init__.py,sha256=other,5")
    files = read_sites([tmp_path, tmp_path])
    assert [(file.distribution, file.sha256) for file in files] == [("a-1.0", DIGEST), ("b-1.0", "other")]


def test_a_record_that_is_no_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    record(tmp_path, "demo-1.0")
    (tmp_path / "demo-1.0.dist-info" / "RECORD").write_bytes(b"caf\xe9.py,sha256=" + DIGEST.encode() + b",5\n")
    [file] = read_sites([tmp_path])
    with pytest.raises(Fail, match="is missing"):
        check_file(file)


def test_the_key_says_which_file_and_which_hash(tmp_path: Path) -> None:
    file = tmp_path / ("deep/" * 200)
    same, other_hash, other_file = listed(file), listed(file, "other"), listed(tmp_path / "x")
    assert same.idempotency_key == listed(file).idempotency_key
    assert len({each.idempotency_key for each in (same, other_hash, other_file)}) == 3
    assert len(same.idempotency_key) <= 512


def test_a_file_with_the_listed_hash_passes_with_its_size(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"hello")
    assert check_file(listed(file)) == 5


@pytest.mark.parametrize(
    ("content", "error_type", "words"),
    [(b"hallo", "Differs", "differs: its SHA-256 is .+, listed is"), (None, "Missing", "demo-1.0: x is missing")],
)
def test_a_file_at_fault_is_not_tried_again(tmp_path: Path, content: bytes | None, error_type: str, words: str) -> None:
    file = tmp_path / "x"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Fail, match=words) as raised:
        check_file(listed(file))
    assert raised.value.error_type == error_type


def test_a_folder_in_place_of_a_file_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(Fail, match="can't be read: Is a directory") as raised:
        check_file(listed(tmp_path))
    assert raised.value.error_type == "Unreadable"
