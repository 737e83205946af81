"""Looks at how images are built, with hadolint."""

from pathlib import Path

from dispatchd_pipelines.scans import sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import run

DOCKERFILE = "Dockerfile"


def scan(root: Path) -> list[Finding]:
    """What hadolint has to say, down to its matters of style. Comments that would silence it are not heeded."""
    if not (root / DOCKERFILE).is_file():
        raise ScanFailed(f"there is no {DOCKERFILE}")
    command = ["hadolint", "--no-fail", "--disable-ignore-pragma", "--format=sarif", DOCKERFILE]
    return sarif.read(run(command, root, answers=[0]).stdout)
