"""The provider of Tree, which stops before its third file is whole and waits, so that a test can kill it there."""

import os
import runpy
import signal
import sys
from itertools import count
from pathlib import Path

_RENAMED = count(1)
_replace = Path.replace


def _stop_in_the_middle(path: Path, target: Path) -> Path:
    if next(_RENAMED) == 3:
        noted = Path(f"{REACHED}.new")
        noted.write_text(f"{os.getppid()} {os.getpid()}")
        _replace(noted, REACHED)
        signal.pause()
    return _replace(path, target)


if __name__ == "__main__":
    REACHED = Path(sys.argv.pop(1))
    Path.replace = _stop_in_the_middle  # type: ignore[method-assign, assignment]
    runpy.run_module("dispatchd_infra.provider", run_name="__main__")
