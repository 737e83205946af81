"""Looks for secrets in every commit there ever was, with gitleaks."""

import tempfile
from pathlib import Path

from dispatchd_pipelines.scans import sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import run

_FOUND = 10


def scan(root: Path) -> list[Finding]:
    """The secrets in the history of `root`. A shallow clone fails: what it lacks would pass unseen."""
    shallow = run(["git", "rev-parse", "--is-shallow-repository"], root, answers=[0]).stdout.strip()
    if shallow != "false":
        raise ScanFailed(
            "this clone is shallow, so most of its history can't be searched: `git fetch --unshallow`, "
            "or `fetch-depth: 0` in a workflow"
        )
    for own in (".gitleaks.toml", ".gitleaksignore"):
        if (root / own).exists():
            raise ScanFailed(f"findings are excused in pipelines/exceptions.toml alone: remove {own}")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "gitleaks.sarif"
        command = ["gitleaks", "git", "--no-banner", "--no-color", "--redact", "--ignore-gitleaks-allow"]
        command += [f"--exit-code={_FOUND}", "--report-format=sarif", f"--report-path={report}", "."]
        run(command, root, answers=[0, _FOUND])
        return sarif.read(report.read_text("utf-8"))
