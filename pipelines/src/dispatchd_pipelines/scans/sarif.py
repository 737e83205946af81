"""Reads and writes SARIF 2.1.0, the format in which GitHub's code scanning takes findings."""

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from dispatchd_pipelines.scans.finding import Finding, ScanFailed

_LEFT_IN_URI = "/=+@~"
"""What stands for itself in an address, beside letters and digits. A colon does not: it would end a scheme."""


def read(text: str, *, only_errors: bool = False) -> list[Finding]:
    """The findings in what a scanner has written. Raises ScanFailed if this is no SARIF, or tells of a failure."""
    try:
        runs = json.loads(text)["runs"]
        for run in runs:
            if not all(each.get("executionSuccessful", True) for each in run.get("invocations", [])):
                raise ScanFailed("the scanner's report says that it did not succeed")
        results = [result for run in runs for result in run.get("results") or []]
        return [_finding(result) for result in results if not only_errors or result.get("level") == "error"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ScanFailed(f"the scanner's report is no SARIF that can be read: {error!r}") from error


def _finding(fields: Mapping[str, Any]) -> Finding:
    places = fields.get("locations") or [{}]
    physical = places[0].get("physicalLocation", {})
    return Finding(
        rule=fields["ruleId"],
        place=str(PurePosixPath(physical.get("artifactLocation", {}).get("uri", "."))),
        message=fields["message"]["text"].strip(),
        line=physical.get("region", {}).get("startLine", 1),
        commit=fields.get("partialFingerprints", {}).get("commitSha", ""),
    )


def write(scan: str, findings: Iterable[Finding], excused: Mapping[str, str]) -> str:
    """The findings as SARIF. `excused` has the reasons of exceptions by the key of what they excuse."""
    listed = sorted(findings)
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": f"scan-{scan}", "rules": [{"id": rule} for rule in sorted(_rules(listed))]}
                },
                "results": [_result(each, excused.get(each.key)) for each in listed],
            }
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _rules(findings: Iterable[Finding]) -> set[str]:
    return {each.rule for each in findings}


def _result(finding: Finding, reason: str | None) -> dict[str, object]:
    place = {
        "artifactLocation": {"uri": quote(finding.place, safe=_LEFT_IN_URI)},
        "region": {"startLine": max(finding.line, 1)},
    }
    result: dict[str, object] = {
        "ruleId": finding.rule,
        "level": "error",
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"finding/v1": finding.key},
    }
    if reason is not None:
        result["suppressions"] = [{"kind": "external", "justification": reason}]
    return result
