"""Looks at how images are built, with hadolint."""

import tempfile
from pathlib import Path

from dispatchd_pipelines.scans import sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import run

DOCKERFILE = "Dockerfile"


def scan(root: Path) -> list[Finding]:
    """What hadolint says, down to its matters of style. Neither comments nor files that would silence it are heeded."""
    if not (root / DOCKERFILE).is_file():
        raise ScanFailed(f"there is no {DOCKERFILE}")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as nothing:
        nothing.write("ignored: []\n")
        nothing.flush()
        command = ["hadolint", f"--config={nothing.name}", "--no-fail", "--disable-ignore-pragma", "--format=sarif"]
        return sarif.read(run([*command, DOCKERFILE], root, answers=[0]).stdout)
