"""The clone in which a release is made, by the command git."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from dispatchd_pipelines.releasing.refused import Refused


class Repository:
    """A working tree; every error of git is a Refused with git's own words."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str, given: bytes = b"", environment: Mapping[str, str] = {}) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env={**os.environ, **environment},
            input=given,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise Refused(f"git {arguments[0]}: {said or f'exit code {done.returncode}'}")
        return done.stdout.decode("utf-8").rstrip("\n")

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

    def commit(self, files: Mapping[str, bytes], message: str) -> None:
        """Commits these contents on top of HEAD, and then lets the tree follow.

        The commit is made beside the tree and its index: what fails or is killed before it stands has changed nothing.
        """
        with TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            self.git("read-tree", "HEAD", environment=index)
            for path, content in files.items():
                blob = self.git("hash-object", "-w", "--stdin", given=content)
                self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", environment=index)
            tree = self.git("write-tree", environment=index)
        signed = self.git("config", "--type=bool", "--default=false", "commit.gpgsign") == "true"
        commit = self.git("commit-tree", *(["-S"] if signed else []), "-p", "HEAD", "-m", message, tree)
        self.git("merge", "--quiet", "--ff-only", commit)
