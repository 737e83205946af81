"""What is rendered is the same always and everywhere, and is what is committed."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from dispatchd_infra.contents import mistakes_in
from dispatchd_infra.emit import Folder
from dispatchd_infra.folder import differences
from dispatchd_infra.render import render
from dispatchd_infra.settings import Stack

INFRA = Path(__file__).parents[1]


def _digest(folders: list[Folder]) -> str:
    files = sorted((f"{folder.path}/{name}", text) for folder in folders for name, text in folder.files.items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _digest_of_all() -> str:
    return _digest([folder for stack in Stack for folder in render(INFRA, stack)])


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_with_another_hash_seed_renders_the_same_bytes(hash_seed: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(INFRA / 'tests')!r}); import test_render as t; print(t._digest_of_all())"
    )
    environment = {"PYTHONHASHSEED": hash_seed, "TZ": "Asia/Kolkata", "LC_ALL": "C"}

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )

    assert done.stdout.strip() == _digest_of_all()


@pytest.mark.parametrize("stack", Stack)
def test_what_is_rendered_may_be_written_and_is_what_is_committed(stack: Stack) -> None:
    for folder in render(INFRA, stack):
        assert mistakes_in(folder) == []
        assert differences(INFRA.parent, folder) == []


def test_no_folder_has_two_owners() -> None:
    paths = [f"{folder.path}/" for stack in Stack for folder in render(INFRA, stack)]

    assert not [(one, other) for one in paths for other in paths if one != other and one.startswith(other)]
    assert len(set(paths)) == len(paths)


def test_nothing_on_this_machine_is_in_a_file() -> None:
    for stack in Stack:
        for folder in render(INFRA, stack):
            for name, text in folder.files.items():
                assert str(INFRA.parent) not in text, name
