"""Runs the scanners, which are programs of others."""

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from dispatchd_pipelines.scans.finding import ScanFailed

_OPTIONS = ("GITLEAKS_", "HADOLINT_", "PIP_AUDIT_", "RUST_", "ZIZMOR_")
"""How variables begin that scanners take options from: what a machine happens to have set must not decide. With
RUST_BACKTRACE, zizmor ends with addresses and not with what is wrong."""


def run(
    command: list[str], root: Path, *, answers: Collection[int], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a scanner to its end. Raises ScanFailed if it ends with an exit code that is none of its answers."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OPTIONS)}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment or inherited,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ScanFailed(f"there is no `{command[0]}`: `make scanners-setup` installs it") from error
    if done.returncode not in answers:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ScanFailed(f"`{command[0]}` ended with exit code {done.returncode}: {' / '.join(said[-3:])}")
    return done


def refuse_lists(root: Path, *files: str) -> None:
    """Raises ScanFailed if there is a file in which a scanner would look for what it shall not find."""
    for file in files:
        if (root / file).exists():
            raise ScanFailed(f"findings are excused in pipelines/exceptions.toml alone: remove {file}")
