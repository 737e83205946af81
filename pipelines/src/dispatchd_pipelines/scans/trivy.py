"""Reads what Trivy has found in files or in an image, where somebody let it write that down:

trivy fs --scanners vuln,secret,misconfig --format json --output build/trivy.json .
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dispatchd_pipelines.scans.finding import Finding, ScanFailed

SCANNED = ("files", "control-plane", "scheduler", "worker-gateway")
"""The files of this repository, and the image of each role."""
FOUND = Path("build/trivy.json")
_FORMAT = 2


def scan(root: Path) -> list[Finding]:
    """What Trivy has found. Raises ScanFailed if it has left no report."""
    try:
        report = json.loads((root / FOUND).read_text("utf-8"))
        if report["SchemaVersion"] != _FORMAT:
            raise ScanFailed(f"{FOUND} has the format {report['SchemaVersion']} of Trivy; this program reads {_FORMAT}")
        # Where nothing was found there are no results at all.
        return [finding for result in report.get("Results") or [] for finding in _of(result)]
    except OSError as error:
        raise ScanFailed(f"there is no {FOUND}, which Trivy writes with `--format json --output {FOUND}`") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ScanFailed(f"{FOUND} is no report of Trivy that can be read: {error!r}") from error


def _of(result: Mapping[str, Any]) -> Iterator[Finding]:
    # Code scanning takes no absolute path, as those in an image are.
    target = result["Target"].removeprefix("/")
    for each in result.get("Vulnerabilities") or []:
        fixed = each.get("FixedVersion") or "no version yet"
        message = f"{each['Severity']}, in {target}: {each.get('Title', 'a known vulnerability')}; fixed in {fixed}"
        yield Finding(each["VulnerabilityID"], f"{each['PkgName']}=={each['InstalledVersion']}", message)
    for each in result.get("Misconfigurations") or []:
        line = each.get("CauseMetadata", {}).get("StartLine", 1)
        yield Finding(each["ID"], target, f"{each['Severity']}: {each['Message']}", line)
    # What was found is a secret: only where it stands may be told.
    for each in result.get("Secrets") or []:
        yield Finding(each["RuleID"], target, f"{each['Severity']}: {each['Title']}", each["StartLine"])
