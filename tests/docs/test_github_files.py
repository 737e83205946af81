"""The files in .github/ that people meet: owners of files that exist, and forms that ask for compatibility."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
# https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests/syntax-for-githubs-form-schema
ELEMENTS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def form(path: Path) -> dict[str, Any]:
    value = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(value, dict)
    return value


def test_every_line_of_codeowners_names_what_exists_and_an_owner() -> None:
    text = (GITHUB / "CODEOWNERS").read_text("utf-8")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0][0] == "*"
    assert [pattern for pattern, *_ in lines[1:] if not (ROOT / pattern.strip("/")).exists()] == []
    for pattern, *owners in lines:
        assert owners, pattern
        assert all(re.fullmatch(r"@[a-z0-9-]+(/[a-z0-9-]+)?", owner) for owner in owners)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_github_needs_and_asks_for_compatibility(path: Path) -> None:
    value = form(path)
    assert value.keys() == {"name", "description", "body"}
    assert {element["type"] for element in value["body"]} <= ELEMENTS
    ids = [element["id"] for element in value["body"]]
    assert len(ids) == len(set(ids))
    assert all(element["attributes"]["label"] for element in value["body"])
    [compatibility] = [element for element in value["body"] if element["id"] == "compatibility"]
    assert compatibility["validations"] == {"required": True}
    options = compatibility["attributes"]["options"]
    assert len(options) == len(set(options)) > 1


def test_vulnerabilities_are_led_to_where_nobody_else_reads_them() -> None:
    config = form(GITHUB / "ISSUE_TEMPLATE" / "config.yml")
    assert config["blank_issues_enabled"] is False
    [link] = config["contact_links"]
    assert link["url"].endswith("/security/advisories/new")


def test_a_pull_request_is_asked_for_compatibility_and_for_its_test() -> None:
    text = (GITHUB / "pull_request_template.md").read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "What changes, and why",
        "Compatibility",
        "How it was checked",
    ]
