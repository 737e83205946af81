"""Real git repositories in temporary folders: a server, and a clone with the settings of this repository."""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from click.testing import CliRunner, Result

from dispatchd_infra.cli import main

INFRA = Path(__file__).parents[1]
_NOBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false")


@dataclass(frozen=True)
class Clone:
    """A clone that has the settings of infra/, and what was committed since."""

    root: Path

    def git(self, *arguments: str) -> str:
        """Runs git here and returns what it prints."""
        return _git(*_NOBODY, "-C", str(self.root), *arguments)

    def commit(self, message: str = "Change something") -> None:
        """Commits everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def push(self, branch: str) -> None:
        """Makes HEAD this branch on the server."""
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        self.git("fetch", "--quiet", "origin")

    def write(self, path: str, text: str) -> None:
        """Writes a file."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def read(self, path: str) -> str:
        """The text of a file."""
        return (self.root / path).read_text("utf-8")

    def files(self) -> dict[str, bytes]:
        """Every file below gitops/ with what it holds."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted((self.root / "gitops").rglob("*"))
            if path.is_file()
        }

    def run(self, *arguments: str) -> Result:
        """Runs the command `infra` on this clone."""
        return CliRunner().invoke(
            main, ["--infra", str(self.root / "infra"), *map(str, arguments)], catch_exceptions=False
        )

    def succeed(self, *arguments: str) -> str:
        """Runs the command, which must succeed, and returns what it prints."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def refuse(self, *arguments: str) -> str:
        """Runs the command, which must fail and leave every file and commit as it was; returns what it says."""
        before = self.files(), self.git("rev-parse", "HEAD")
        result = self.run(*arguments)
        assert result.exit_code != 0, result.output
        assert (self.files(), self.git("rev-parse", "HEAD")) == before
        return " ".join(result.output.split())


def make_clone(folder: Path) -> Clone:
    """A server and a clone of it, with the settings committed on `main` and pushed. The folder may be copied."""
    server, clone = folder / "server", Clone(folder / "clone")
    _git("init", "--quiet", "--template=", "--bare", "--initial-branch=main", str(server))
    _git("clone", "--quiet", "--template=", str(server), str(clone.root))
    clone.git("remote", "set-url", "origin", "../server")
    clone.git("checkout", "--quiet", "-B", "main")
    clone.git("config", "user.name", "Nobody")
    clone.git("config", "user.email", "nobody@example.com")
    clone.git("config", "commit.gpgsign", "false")
    shutil.copytree(
        INFRA / "gitops", clone.root / "infra" / "gitops", ignore=shutil.ignore_patterns("__pycache__", ".*")
    )
    shutil.copy(INFRA / "common.yaml", clone.root / "infra")
    clone.commit("Add the settings")
    clone.push("main")
    return clone


def copy_of(make: Callable[[Path], None], folder: Path) -> None:
    """Copies into a folder what `make` makes in one; it makes it only once, because git takes long."""
    shutil.copytree(_made(make), folder, dirs_exist_ok=True)


@cache
def _made(make: Callable[[Path], None]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="repositories-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder)
    return folder


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()
