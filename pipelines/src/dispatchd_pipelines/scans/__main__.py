"""One scan of this repository: `python -m dispatchd_pipelines.scans SCAN`, at its top.

It prints what was found and writes it to build/scans/SCAN.sarif. The exit code is 0 if nothing was found that is not
excused in pipelines/exceptions.toml, 1 if something was, if an exception excuses nothing or if the scanner failed, 2
if there is no such scan, and 75 if the scan could not look where it has to: that is "not run", and never passed.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from dispatchd_pipelines.scans import (
    code,
    containers,
    dependencies,
    go_modules,
    licences,
    sarif,
    secrets,
    trivy,
    workflows,
)
from dispatchd_pipelines.scans.exceptions import BadExceptions, Exceptions, load
from dispatchd_pipelines.scans.finding import Finding, NotRun, ScanFailed

SCANS: Mapping[str, Callable[[Path], list[Finding]]] = {
    "secrets": secrets.scan,
    "code": code.scan,
    "dependencies": dependencies.scan,
    **{f"licences-{environment}": licences.scan for environment in licences.ENVIRONMENTS},
    "go": go_modules.scan,
    "dockerfile": containers.scan,
    "workflows": workflows.scan,
    **{f"trivy-{what}": trivy.scan for what in trivy.SCANNED},
}
EXCEPTIONS = Path("pipelines/exceptions.toml")
REPORTS = Path("build/scans")
NOT_RUN = os.EX_TEMPFAIL


def main(arguments: Sequence[str], root: Path, today: date) -> int:
    if len(arguments) != 1 or arguments[0] not in SCANS:
        _say(f"scans: name one of these: {', '.join(SCANS)}")
        return 2
    name = arguments[0]
    report = root / REPORTS / f"{name}.sarif"
    report.unlink(missing_ok=True)
    try:
        exceptions = load((root / EXCEPTIONS).read_text("utf-8"), name, SCANS, today)
        findings = SCANS[name](root)
    except NotRun as reason:
        _say(f"scan {name}: not run: {reason}")
        return NOT_RUN
    except FileNotFoundError as error:
        _say(f"scan {name}: failed: there is no {error.filename}: run this at the top of the repository")
        return 1
    except (ScanFailed, BadExceptions) as error:
        _say(f"scan {name}: failed: {error}")
        return 1
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(sarif.write(name, findings, exceptions.reasons), "utf-8")
    return judge(name, findings, exceptions)


def judge(name: str, findings: Sequence[Finding], exceptions: Exceptions) -> int:
    """Says what was found, what to write down to excuse it, and what is excused for nothing; returns the exit code."""
    open_ones = sorted(each for each in findings if each.key not in exceptions.reasons)
    for each in open_ones:
        _say(f"{each}\n    (an exception would name: {each.key})")
    needless = sorted(exceptions.reasons.keys() - {each.key for each in findings})
    for key in needless:
        _say(f"the exception for {key!r} excuses nothing any more: remove it from {EXCEPTIONS}")
    excused = len(findings) - len(open_ones)
    _say(f"scan {name}: {len(open_ones)} findings, and {excused} that are excused for a time")
    return 1 if open_ones or needless else 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd(), datetime.now(UTC).date()))
