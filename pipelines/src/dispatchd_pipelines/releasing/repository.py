"""The clone in which a release is made, by the command git."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from dispatchd_pipelines.releasing.refused import Refused


class Repository:
    """A working tree; every error of git is a Refused with git's own words."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Refused(f"git {arguments[0]}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
        return done.stdout.rstrip("\n")

    def changed_files(self) -> list[str]:
        """Files that are not as HEAD has them, and new ones that git does not ignore."""
        return [line[3:] for line in self.git("status", "--porcelain").splitlines()]

    def tree(self) -> str:
        """The id of everything that HEAD holds: equal for equal files."""
        return self.git("rev-parse", "HEAD^{tree}")

    def tags(self) -> set[str]:
        """Tags of releases here, and in the remote repository `origin` if there is one."""
        here = self.git("tag", "--list", "v*").split()
        if "origin" not in self.git("remote").split():
            return set(here)
        there = [line.rpartition("refs/tags/")[2] for line in self.git("ls-remote", "--tags", "origin").splitlines()]
        return {*here, *(tag.removesuffix("^{}") for tag in there)}

    def commit(self, paths: Iterable[str], message: str) -> None:
        """Commits these files and nothing else; if that fails they are as before."""
        names = sorted(paths)
        try:
            self.git("add", "--", *names)
            self.git("commit", "--quiet", "--message", message, "--", *names)
        except BaseException:
            self.restore(names)
            raise

    def restore(self, paths: Iterable[str]) -> None:
        """Files as HEAD has them; those that it hasn't are removed."""
        for name in paths:
            self.git("reset", "--quiet", "--", name)
            if self.git("ls-tree", "--name-only", "HEAD", "--", name):
                self.git("checkout", "--", name)
            else:
                (self.root / name).unlink(missing_ok=True)
