"""Dangerous Python is found in the folders that are shipped."""

import pytest

from dispatchd_pipelines.scans import code
from scanned_tree import Tree

DANGEROUS = "import pickle\n\n\ndef read(text):\n    return eval(text)"


@pytest.fixture
def folders(tree: Tree) -> Tree:
    for folder in code.FOLDERS:
        tree.write(f"{folder}/fine.py", "print('fine')\n")
    return tree


def test_dangerous_code_is_found(folders: Tree) -> None:
    folders.write("app/reader.py", DANGEROUS)
    assert [each.key for each in code.scan(folders.top)] == ["B307 app/reader.py"]


def test_a_comment_beside_it_does_not_excuse_it(folders: Tree) -> None:
    folders.write("infra/reader.py", f"{DANGEROUS}  # nosec\n")
    assert [each.key for each in code.scan(folders.top)] == ["B307 infra/reader.py"]


def test_a_list_of_bandits_own_does_not_excuse_it(folders: Tree) -> None:
    folders.write("app/.bandit", "[bandit]\nskips = B307\n")
    folders.write("app/reader.py", DANGEROUS)
    assert [each.key for each in code.scan(folders.top)] == ["B307 app/reader.py"]


def test_tests_are_left_out(folders: Tree) -> None:
    folders.write("infra/tests/reader.py", DANGEROUS)
    assert code.scan(folders.top) == []
