"""Runs the scanners, which are programs of others."""

import subprocess
from collections.abc import Collection
from pathlib import Path

from dispatchd_pipelines.scans.finding import ScanFailed


def run(
    command: list[str], root: Path, *, answers: Collection[int], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a scanner to its end. Raises ScanFailed if it ends with an exit code that is none of its answers."""
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ScanFailed(f"there is no `{command[0]}`: `make scanners-setup` installs it") from error
    if done.returncode not in answers:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ScanFailed(f"`{command[0]}` ended with exit code {done.returncode}: {' / '.join(said[-3:])}")
    return done
