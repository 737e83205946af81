"""A repository for a scanner to look at."""

import os
import subprocess
from pathlib import Path


class Tree:
    """A git repository of a test's own."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        author = {
            f"GIT_{who}_{what}": "somebody@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        subprocess.run(["git", *arguments], cwd=self.top, env={**os.environ, **author}, check=True)

    def write(self, file: str, text: str) -> None:
        (self.top / file).parent.mkdir(parents=True, exist_ok=True)
        (self.top / file).write_text(text, "utf-8")

    def commit(self, file: str, text: str) -> None:
        self.write(file, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", f"Write {file}")
