"""Looks for dangerous Python in what is shipped or run to ship it, with bandit.

What bandit rates as low is left to ruff's rules S in the step `lint`, which has the same rules and is far quicker.
"""

import json
import os
from pathlib import Path

from dispatchd_pipelines.scans.finding import Finding, ScanFailed
from dispatchd_pipelines.scans.programs import run

FOLDERS = ("app", "infra", "perf", "pipelines", "proto")
LEFT_OUT = ("*/.venv/*", "*/tests/*", "*/sdk/*")


def scan(root: Path) -> list[Finding]:
    """What bandit rates as medium or high. Neither comments nor files that would silence it are heeded."""
    command = ["bandit", "--recursive", "--quiet", "--format=json", "-ll", "--ignore-nosec", f"--ini={os.devnull}"]
    command += [f"--exclude={','.join(LEFT_OUT)}", *FOLDERS]
    report = json.loads(run(command, root, answers=[0, 1]).stdout)
    if report["errors"]:
        raise ScanFailed(f"bandit could not read everything: {report['errors']}")
    return [_finding(result) for result in report["results"]]


def _finding(result: dict[str, str]) -> Finding:
    place = result["filename"].removeprefix("./")
    return Finding(result["test_id"], place, result["issue_text"], int(result["line_number"]))
