"""The files of this repository, as git sees them."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(patterns: Sequence[str] = ("**",)) -> list[Path]:
    """The files that git does not ignore and that one of these patterns matches, relative to the top.

    Where the repository itself is not at hand, as in a container that was given only the files, a new and empty one
    takes its place: what is ignored is written in the tree.
    """
    with tempfile.TemporaryDirectory() as empty:
        if not (ROOT / ".git").exists():
            subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True)
            place = [f"--git-dir={empty}", f"--work-tree={ROOT}"]
        else:
            place = []
        wanted = [f":(glob){pattern}" for pattern in patterns]
        listed = subprocess.run(
            ["git", *place, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *wanted],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    return [Path(name) for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).exists()]


def copy(patterns: Sequence[str], target: Path) -> Path:
    """Copies the files that one of these patterns matches; returns the top of the copy."""
    for file in files(patterns):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, target / file, follow_symlinks=False)
    return target
