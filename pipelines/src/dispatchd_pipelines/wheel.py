"""Builds the wheel and the source distribution into dist/, and uses the wheel where nothing else is."""

import subprocess
import sys
import tempfile
from pathlib import Path

DIST = Path("dist")
USE = """
from dispatchd import AsyncClient, Client, Worker
from dispatchd.adapters.postgres.migrate import read_migrations
assert read_migrations(), "the wheel has no migrations"
"""


def main() -> None:
    """Runs at the top of the repository; the first command that fails ends it."""
    _run("uv", "build", "--quiet", "--clear", "--out-dir", str(DIST))
    [wheel] = DIST.glob("*.whl")
    _use(wheel.resolve())
    for built in sorted(DIST.glob("dispatchd-*")):
        sys.stdout.write(f"{built}\n")


def _use(wheel: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dispatchd-wheel-") as folder:
        environment = Path(folder) / "environment"
        _run("uv", "venv", "--quiet", "--python", sys.executable, str(environment))
        _run("uv", "pip", "install", "--quiet", "--python", str(environment), str(wheel))
        # From a folder of its own, where no source tree can stand in for what the wheel lacks.
        _run(str(environment / "bin" / "dispatchd"), "--version", folder=folder)
        _run(str(environment / "bin" / "python"), "-c", USE, folder=folder)


def _run(*command: str, folder: str = ".") -> None:
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode != 0:
        sys.exit(f"wheel: `{command[0]}` failed with exit code {done.returncode}")


if __name__ == "__main__":
    main()
