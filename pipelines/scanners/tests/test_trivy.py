"""What Trivy has found is told, and excused, like any other finding. The reports have the form of Trivy's own tests."""

import json
from datetime import date
from typing import Any

import pytest

from dispatchd_pipelines.scans.__main__ import EXCEPTIONS, main
from dispatchd_pipelines.scans.trivy import FOUND
from scanned_tree import Tree

TODAY = date(2026, 12, 1)
VULNERABLE = {
    "Target": "/image.tar (debian 10.1)",
    "Class": "os-pkgs",
    "Type": "debian",
    "Vulnerabilities": [
        {
            "VulnerabilityID": "CVE-2019-18224",
            "PkgName": "libidn2-0",
            "InstalledVersion": "1:2.0.5-1",
            "FixedVersion": "2.0.5-1+deb10u1",
            "Severity": "CRITICAL",
            "Title": "libidn2: heap-based buffer overflow",
        }
    ],
}
MISCONFIGURED = {
    "Target": "Dockerfile",
    "Class": "config",
    "Misconfigurations": [
        {"ID": "DS002", "Severity": "HIGH", "Message": "Specify at least 1 USER command", "CauseMetadata": {}}
    ],
}
SECRET = {
    "Target": "/app/keys.py",
    "Class": "secret",
    "Secrets": [
        {"RuleID": "aws-access-key-id", "Severity": "CRITICAL", "Title": "AWS key", "StartLine": 7, "Match": "hush"}
    ],
}
ENTRY = """\
[[exception]]
scan = "trivy-scheduler"
finding = "CVE-2019-18224 libidn2-0==1:2.0.5-1"
reason = "nothing of ours resolves names of domains with it"
since = 2026-11-01
until = 2026-12-01
"""


def found(tree: Tree, *results: dict[str, Any], exceptions: str = "", today: date = TODAY) -> int:
    """The exit code for a report with these results."""
    tree.write(str(EXCEPTIONS), exceptions)
    tree.write(str(FOUND), json.dumps({"SchemaVersion": 2, **({"Results": results} if results else {})}))
    return main(["trivy-scheduler"], tree.top, today)


def results(tree: Tree) -> list[dict[str, Any]]:
    """What code scanning is told."""
    sarif = json.loads((tree.top / "build/scans/trivy-scheduler.sarif").read_text("utf-8"))
    listed: list[dict[str, Any]] = sarif["runs"][0]["results"]
    return listed


def test_a_report_without_results_has_no_finding(tree: Tree) -> None:
    """As Trivy leaves them out where there are none."""
    assert found(tree) == 0
    assert results(tree) == []


@pytest.mark.parametrize(
    ("result", "key", "address"),
    [
        (VULNERABLE, "CVE-2019-18224 libidn2-0==1:2.0.5-1", "libidn2-0==1%3A2.0.5-1"),
        (MISCONFIGURED, "DS002 Dockerfile", "Dockerfile"),
        (SECRET, "aws-access-key-id app/keys.py", "app/keys.py"),
    ],
)
def test_a_finding_of_each_kind_fails_and_goes_to_code_scanning(
    tree: Tree, result: dict[str, Any], key: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(tree, result) == 1
    assert f"an exception would name: {key}" in capsys.readouterr().err
    [told] = results(tree)
    assert told["ruleId"] == key.split()[0]
    assert told["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == address


def test_a_finding_that_is_excused_passes_until_the_exception_ends(tree: Tree) -> None:
    assert found(tree, VULNERABLE, exceptions=ENTRY) == 0
    assert [each["suppressions"][0]["justification"] for each in results(tree)] == [
        "nothing of ours resolves names of domains with it"
    ]
    assert found(tree, VULNERABLE, SECRET, exceptions=ENTRY) == 1
    assert found(tree, VULNERABLE, exceptions=ENTRY, today=date(2026, 12, 2)) == 1


def test_a_secret_itself_is_told_nowhere(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    found(tree, SECRET)
    assert "hush" not in capsys.readouterr().err + json.dumps(results(tree))


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (None, "there is no build/trivy.json"),
        ("", "no report of Trivy that can be read"),
        ("[]", "no report of Trivy that can be read"),
        ('{"SchemaVersion": 3}', "has the format 3"),
        ('{"SchemaVersion": 2, "Results": [{"Target": "x", "Secrets": [{}]}]}', "no report of Trivy that can be read"),
    ],
)
def test_a_report_that_is_missing_or_of_another_form_fails(
    tree: Tree, report: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.write(str(EXCEPTIONS), "")
    if report is not None:
        tree.write(str(FOUND), report)
    assert main(["trivy-scheduler"], tree.top, TODAY) == 1
    assert says in capsys.readouterr().err
