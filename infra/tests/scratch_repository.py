"""A copy of what the program of gitops/ reads and writes, with a state of its own, for the real Pulumi."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pulumi import automation

from infra_tools.catalogue import PULUMI, find
from pulumi_operation import operate

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parents[1]
COPIED = ("infra/gitops", "infra/common.yaml", "gitops")


class OperationFailed(Exception):
    """Pulumi refused or failed; the text is what it printed."""


class ScratchRepository:
    """Below `folder`: the copy in git, Pulumi's home, and a link to the pulumi that is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "repository"

    def use_provider(self, plugins: Path) -> None:
        """Lets Pulumi find its provider in this folder."""
        link = self.root / "infra" / "plugins"
        link.unlink(missing_ok=True)
        link.symlink_to(plugins)

    def pulumi(self, operation: str, stack: str, *options: str) -> dict[str, int]:
        """Runs `pulumi up` and the like, without questions, and returns how many resources changed in which way.

        The program runs in this process, which has imported what it needs. Raises OperationFailed.
        """
        try:
            return operate(self.folder, stack, operation, *options)
        except automation.CommandError as exc:
            raise OperationFailed(str(exc)) from exc

    def pulumi_anew(self, operation: str, stack: str, *options: str) -> dict[str, int]:
        """The same with the program in a process of its own, which takes as long as for people."""
        process = self.begin(operation, stack, *options)
        out, err = process.communicate()
        if process.returncode != 0:
            raise OperationFailed(err)
        changes: dict[str, int] = json.loads(out)
        return changes

    def begin(self, operation: str, stack: str, *options: str) -> subprocess.Popen[str]:
        """Starts an operation in a process of its own and doesn't wait for it."""
        return subprocess.Popen(
            [sys.executable, TESTS / "pulumi_operation.py", self.folder, stack, operation, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def copy(self, folder: Path) -> "ScratchRepository":
        """Another one in this folder, as this one is now, with its state."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return ScratchRepository(folder)

    def changes(self) -> str:
        """What git sees as changed or new since the copy was made."""
        return _git(self.root, "status", "--porcelain", "--untracked-files=all")


def new_repository(folder: Path) -> ScratchRepository:
    """One without any state in this folder, as the files of this repository are now."""
    new = ScratchRepository(folder)
    (folder / "pulumi" / "bin").mkdir(parents=True)
    (folder / "pulumi" / "bin" / "pulumi").symlink_to(find(PULUMI))
    listed = _git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *COPIED)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (new.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, new.root / name)
    new.use_provider(REPOSITORY / "infra" / "plugins")
    _git(new.root, "init", "--quiet")
    _git(new.root, "add", "--all")
    author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    _git(new.root, *author, "commit", "--quiet", "-m", "as it was")
    return new


def _git(folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout
