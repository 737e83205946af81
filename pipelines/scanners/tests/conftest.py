"""A tree to scan, which begins with nothing in it."""

import os
import sys
from pathlib import Path

import pytest

from scanned_tree import Tree


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    # The scanners are where the Python that runs this is.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    top = tmp_path / "tree"
    top.mkdir()
    return Tree(top)
