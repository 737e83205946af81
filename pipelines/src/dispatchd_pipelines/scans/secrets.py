"""Looks for secrets in every commit there ever was, with gitleaks."""

import tempfile
from pathlib import Path

from dispatchd_pipelines.scans import sarif
from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import refuse_lists, run

_FOUND = 10
_HISTORY = "--all --full-history --remerge-diff --text --no-color"
"""Options of `git log`: every commit of every branch, and what a merge has that neither side had. A file counts as text
whatever .gitattributes or a zero byte in it say. gitleaks could not read coloured text, and would find nothing."""


def scan(root: Path) -> list[Finding]:
    """The secrets in the history of `root`. A shallow clone fails: what it lacks would pass unseen."""
    shallow = run(["git", "rev-parse", "--is-shallow-repository"], root, answers=[0]).stdout.strip()
    if shallow != "false":
        raise ScanFailed(
            "this clone is shallow, so most of its history can't be searched: `git fetch --unshallow`, "
            "or `fetch-depth: 0` in a workflow"
        )
    refuse_lists(root, ".gitleaks.toml", ".gitleaksignore")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "gitleaks.sarif"
        command = ["gitleaks", "git", "--no-banner", "--no-color", "--redact", "--ignore-gitleaks-allow"]
        command += [f"--log-opts={_HISTORY}", f"--exit-code={_FOUND}"]
        command += ["--report-format=sarif", f"--report-path={report}", "."]
        run(command, root, answers=[0, _FOUND])
        return sarif.read(report.read_text("utf-8"))
