"""What the commands ask of git; it needs a real repository, and never changes a branch but by one commit."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_NOT_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
"""What git sets for its hooks; a command that runs in one is still about the folder that it was given."""


class GitError(Exception):
    """Git can't do what is asked, or the repository is not as it must be; the text says what to do."""


class Git:
    """The repository that a folder is the top of."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self, reference: str) -> bool:
        """Whether a branch or a commit is here."""
        return self._succeeds("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")

    def branch(self, name: str) -> str:
        """A branch as the server had it at the last fetch, or else the local one of this name. Raises GitError."""
        return name if self.exists(name) and not self.exists(f"origin/{name}") else self.remote_branch(name)

    def remote_branch(self, name: str) -> str:
        """A branch as the server had it at the last fetch. Raises GitError."""
        reference = f"origin/{name}"
        if not self.exists(reference):
            raise GitError(f"{reference} is not here: run `git fetch origin {name}:refs/remotes/origin/{name}`")
        return reference

    def is_shallow(self) -> bool:
        """Whether the history was cut off when the repository was cloned."""
        return self._run("rev-parse", "--is-shallow-repository") == "true"

    def descends(self, descendant: str, ancestor: str) -> bool:
        """Whether everything in `ancestor` is in `descendant`. In a shallow repository that can't be told."""
        return self._succeeds("merge-base", "--is-ancestor", ancestor, descendant)

    def changed_since_fork(self, base: str, head: str) -> list[str]:
        """The files that `head` changed since it was one with `base`."""
        return self._output("diff", "--name-only", "--no-renames", "-z", f"{base}...{head}").split("\0")[:-1]

    def uncommitted(self, path: str) -> list[str]:
        """The files below a path that are not as they were committed."""
        found = self._output("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", path)
        return [entry[3:] for entry in found.split("\0")[:-1]]

    def show(self, commit: str, path: str) -> str | None:
        """The text of a file in a commit, or None if it is not there."""
        if not self._succeeds("cat-file", "-e", f"{commit}:{path}"):
            return None
        return self._output("show", f"{commit}:{path}")

    def versions(self, branch: str, path: str) -> list[str]:
        """The commits that gave a file another text on the branch itself, newest first; a merge counts as one."""
        return self._run("log", "--first-parent", "--format=%H", branch, "--", path).split()

    def ever_had(self, path: str, text: str) -> bool:
        """Whether a file below a path held this text, in any commit that leads to HEAD."""
        return bool(self._run("log", "--format=%H", "--max-count=1", f"-S{text}", "--", path))

    def check_author(self) -> None:
        """Raises GitError if a commit would fail because git does not know whose it is."""
        if not self._succeeds("var", "GIT_AUTHOR_IDENT") or not self._succeeds("var", "GIT_COMMITTER_IDENT"):
            raise GitError("git does not know who commits: set user.name and user.email with `git config`")

    def commit(self, paths: Sequence[str], message: str) -> str:
        """Commits these paths and nothing else, and returns the abbreviated id of the commit.

        Raises GitError if git refuses, by a hook for instance; these paths are then again as they were committed.
        """
        self._run("add", "--all", "--", *paths)
        try:
            self._run("commit", "--quiet", "--only", "--file=-", "--", *paths, text=message)
        except GitError:
            self._run("restore", "--source=HEAD", "--staged", "--worktree", "--", *paths)
            raise
        return self._run("rev-parse", "--short", "HEAD")

    def _run(self, *arguments: str, text: str = "") -> str:
        return self._output(*arguments, text=text).strip()

    def _output(self, *arguments: str, text: str = "") -> str:
        done = self._call(*arguments, text=text)
        if done.returncode != 0:
            raise GitError(f"git {arguments[0]} in {self.root}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def _succeeds(self, *arguments: str) -> bool:
        return self._call(*arguments).returncode == 0

    def _call(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        try:
            return subprocess.run(
                ["git", "-C", str(self.root), *arguments],
                input=text,
                env=environ,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise GitError("git is not installed, or not on the PATH") from None
