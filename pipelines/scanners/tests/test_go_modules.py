"""Vulnerable code is found where a program calls it. Left out unless asked for: `pytest -m slow`."""

import json
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import go_modules
from scanned_tree import Tree

TOOLS = Path(__file__).resolve().parents[1]
CALLS = 'package main\n\nimport "net/url"\n\nfunc main() { _, _ = url.Parse("https://example.org") }\n'
THEN = "2026-01-01T00:00:00Z"
VULNERABLE = {
    "schema_version": "1.3.1",
    "id": "GO-2026-0001",
    "modified": THEN,
    "published": THEN,
    "summary": "Planted",
    "details": "Planted.",
    "affected": [
        {
            "package": {"name": "stdlib", "ecosystem": "Go"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.99.0"}]}],
            "ecosystem_specific": {"imports": [{"path": "net/url", "symbols": ["Parse"]}]},
        }
    ],
    "database_specific": {"url": "https://pkg.go.dev/vuln/GO-2026-0001"},
}


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database in which one function of Go's own library is vulnerable."""
    one = {"id": "GO-2026-0001", "modified": THEN}
    for file, content in {
        "index/db.json": {"modified": THEN},
        "index/modules.json": [{"path": "stdlib", "vulns": [{**one, "fixed": "1.99.0"}]}],
        "index/vulns.json": [{**one, "aliases": []}],
        "ID/GO-2026-0001.json": VULNERABLE,
    }.items():
        (tmp_path / "database" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "database" / file).write_text(json.dumps(content), "utf-8")
    return f"file://{tmp_path / 'database'}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("program", "found"),
    [(CALLS, ["GO-2026-0001 infra/tools/some/go.mod"]), (CALLS.replace("_, _ = url.Parse", "_ = url.QueryEscape"), [])],
)
def test_vulnerable_code_is_found_where_it_is_called(program: str, found: list[str], tree: Tree, database: str) -> None:
    for file in ("go.mod", "go.sum"):
        tree.write(str(go_modules.TOOLS / file), (TOOLS / file).read_text("utf-8"))
    tree.write("infra/tools/some/go.mod", "module example.org/some\n\ngo 1.25\n")
    tree.write("infra/tools/some/main.go", program)
    assert [each.key for each in go_modules.scan(tree.top, database)] == found
