"""An exception excuses one finding for a time, with a reason; and nothing after that."""

import json
from datetime import date
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import exceptions
from dispatchd_pipelines.scans.__main__ import EXCEPTIONS, SCANS, main
from dispatchd_pipelines.scans.exceptions import BadExceptions
from scanned_tree import Tree

TOP = Path(__file__).resolve().parents[3]
TODAY = date(2026, 12, 1)
ENTRY = """\
[[exception]]
scan = "dockerfile"
finding = "DL3002 Dockerfile"
reason = "the program opens port 80"
since = 2026-11-01
until = 2026-12-01
"""


def test_an_exception_holds_on_its_last_day() -> None:
    found = exceptions.load(ENTRY, "dockerfile", SCANS, TODAY)
    assert found.reasons == {"DL3002 Dockerfile": "the program opens port 80"}


def test_an_exception_that_is_over_is_refused() -> None:
    with pytest.raises(BadExceptions, match=r"'DL3002 Dockerfile' ended on 2026-12-01"):
        exceptions.load(ENTRY, "dockerfile", SCANS, date(2026, 12, 2))


def test_an_exception_of_one_scan_means_nothing_to_another() -> None:
    assert exceptions.load(ENTRY, "code", SCANS, date(2027, 12, 2)).reasons == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace('reason = "the program opens port 80"\n', ""), "exactly these keys: scan, finding, reason"),
        (ENTRY.replace("the program opens port 80", " "), "reason is empty"),
        (ENTRY.replace("2026-11-01", '"2026-11-01"'), "since has to be a day"),
        (ENTRY.replace("until = 2026-12-01", "until = 2027-12-01"), "within 366 days"),
        (ENTRY.replace("until = 2026-12-01", "until = 2026-10-01"), "end after it begins"),
        (ENTRY + ENTRY, "excused twice"),
        (ENTRY.replace("dockerfile", "dokkerfile"), "there is no scan 'dokkerfile': name one of secrets, code"),
        (ENTRY.replace("[[exception]]", "[[exceptions]]"), r"begin with \[\[exception\]\]"),
        (ENTRY.replace("[[exception]]", "[exception]"), r"begin with \[\[exception\]\]"),
        ("exception = [1]", "exactly these keys"),
        ("[[exception", "is no TOML"),
    ],
)
def test_an_entry_that_is_not_complete_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadExceptions, match=message):
        exceptions.load(text, "dockerfile", SCANS, TODAY)


def test_the_exceptions_of_this_repository_can_be_read() -> None:
    text = (TOP / EXCEPTIONS).read_text("utf-8")
    for scan in SCANS:
        exceptions.load(text, scan, SCANS, date(2026, 11, 28))


@pytest.fixture
def root_image(tree: Tree) -> Tree:
    tree.write("Dockerfile", "FROM example.org/base:1.0\nUSER 0:0\n")
    tree.write(str(EXCEPTIONS), "")
    return tree


def test_a_finding_fails_and_says_what_an_exception_would_name(
    root_image: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dockerfile"], root_image.top, TODAY) == 1
    assert "an exception would name: DL3002 Dockerfile" in capsys.readouterr().err


def test_a_finding_that_is_excused_passes_and_is_told_with_its_reason(root_image: Tree) -> None:
    root_image.write(str(EXCEPTIONS), ENTRY)
    assert main(["dockerfile"], root_image.top, TODAY) == 0
    [result] = json.loads((root_image.top / "build/scans/dockerfile.sarif").read_text("utf-8"))["runs"][0]["results"]
    assert result["suppressions"][0]["justification"] == "the program opens port 80"


def test_an_exception_whose_finding_is_gone_fails_and_says_which(
    root_image: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    root_image.write(str(EXCEPTIONS), ENTRY)
    root_image.write("Dockerfile", "FROM example.org/base:1.0\nUSER 65532:65532\n")
    assert main(["dockerfile"], root_image.top, TODAY) == 1
    assert "the exception for 'DL3002 Dockerfile' excuses nothing any more: remove it" in capsys.readouterr().err


def test_a_scan_whose_exception_is_over_fails(root_image: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    root_image.write(str(EXCEPTIONS), ENTRY)
    root_image.write("build/scans/dockerfile.sarif", "of an earlier run")
    assert main(["dockerfile"], root_image.top, date(2026, 12, 2)) == 1
    assert "ended on 2026-12-01" in capsys.readouterr().err
    assert not (root_image.top / "build/scans/dockerfile.sarif").exists()


def test_a_folder_that_is_not_the_top_of_the_repository_is_refused(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dockerfile"], tree.top, TODAY) == 1
    assert "pipelines/exceptions.toml: run this at the top of the repository" in capsys.readouterr().err


def test_an_unknown_scan_is_answered_with_the_choices(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sekrets"], tree.top, TODAY) == 2
    assert "secrets, code, dependencies, licences-app, licences-infra," in capsys.readouterr().err


def test_a_scan_that_could_not_look_is_neither_passed_nor_failed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dispatchd_pipelines.scans.go_modules.DATABASE", "http://127.0.0.1:1")
    tree.write(str(EXCEPTIONS), "")
    tree.write("infra/tools/one/go.mod", "module one\n")
    assert main(["go"], tree.top, TODAY) == 75
    assert "not run: the database of Go's vulnerabilities does not answer" in capsys.readouterr().err
