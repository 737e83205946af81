"""Vulnerable code is found where a program calls it, which `pytest -m slow` tries; no answer is never passed."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import go_modules
from dispatchd_pipelines.scans.finding import NotRun
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


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """The address of what says this to whoever calls, and then closes; or, without an answer, never says anything."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            with suppress(TimeoutError):
                caller, _ = server.accept()
                with caller:
                    caller.recv(65536)
                    if answer is None:
                        done.wait(10)
                    else:
                        caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", None])
def test_a_database_that_hangs_up_or_talks_nonsense_is_not_run_and_never_passed(
    answer: bytes | None, tree: Tree
) -> None:
    tree.write("infra/tools/some/go.mod", "module example.org/some\n")
    with answering(answer) as database, pytest.raises(NotRun, match="does not answer: "):
        go_modules.scan(tree.top, database, patience_s=0.2)
