"""A role may open as many files as its user may."""

import subprocess
import sys

import pytest

from dispatchd.entrypoints.lifecycle import MOST_OPEN_FILES

SCRIPT = """
import resource
from dispatchd.entrypoints.lifecycle import allow_many_connections
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
allow_many_connections()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(256, 700), (700, 700)])
def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be(soft: int, hard: int) -> None:
    assert hard < MOST_OPEN_FILES
    script = SCRIPT.format(soft=soft, hard=hard)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == f"({hard}, {hard})"
