"""A vulnerable package is found, and a database that does not answer is no answer."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import dependencies
from dispatchd_pipelines.scans.finding import NotRun, ScanFailed
from scanned_tree import Tree

TOP = Path(__file__).resolve().parents[3]
UV_LOCK = """\
version = 1

[[package]]
name = "ours"
version = "0.1.0"
source = { editable = "." }

[[package]]
name = "weak"
version = "1.0.0"
source = { registry = "https://pypi.org/simple" }
"""
VULNERABLE = {
    "id": "GHSA-weak-weak-weak",
    "summary": "It is weak.",
    "details": "It is weak.",
    "aliases": ["CVE-2026-0001"],
    "published": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "weak", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.0.1"}]}],
            "versions": ["1.0.0"],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """Speaks as OSV's database does, and knows of one vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        weak = (asked["package"]["name"], asked["version"]) == ("weak", "1.0.0")
        answer = json.dumps({"vulns": [VULNERABLE]} if weak else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


@pytest.fixture
def locks(tree: Tree) -> Tree:
    for lock in dependencies.LOCKS:
        tree.write(lock, "strong==1.0.0 \\\n    --hash=sha256:00\n")
    for lock in ("uv.lock", "infra/uv.lock"):
        tree.write(lock, UV_LOCK.replace("weak", "strong"))
    return tree


def test_a_vulnerable_package_of_any_lock_file_is_found(locks: Tree, database: str) -> None:
    locks.write("uv.lock", UV_LOCK)
    locks.write("pipelines/requirements.lock", "weak==1.0.0 ; python_version < '3.13' \\\n    --hash=sha256:00\n")
    [found] = dependencies.scan(locks.top, database)
    assert found.key == "CVE-2026-0001 weak==1.0.0"
    assert found.message == (
        "is in uv.lock and pipelines/requirements.lock; also known as GHSA-weak-weak-weak; fixed in 1.0.1"
    )


def test_packages_that_nobody_warns_of_have_no_findings(locks: Tree, database: str) -> None:
    assert dependencies.scan(locks.top, database) == []


def test_a_package_that_is_pinned_in_two_versions_is_looked_up_in_both(locks: Tree, database: str) -> None:
    locks.write("pipelines/requirements.lock", "weak==1.0.0 ; python_version < '3.13'\nweak==2.0.0\n")
    locks.write("infra/uv.lock", UV_LOCK.replace("1.0.0", "2.0.0"))
    assert [each.place for each in dependencies.scan(locks.top, database)] == ["weak==1.0.0"]


def test_a_database_that_does_not_answer_is_not_run_and_never_passed(locks: Tree) -> None:
    with pytest.raises(NotRun, match="database of vulnerabilities does not answer"):
        dependencies.scan(locks.top, "http://127.0.0.1:1/v1/query")


def test_a_package_that_was_skipped_is_not_run_and_never_passed() -> None:
    """pip-audit itself ends with "No known vulnerabilities found" when it could look up nothing."""
    answered = [{"name": "one"}, {"name": "two", "skip_reason": "not found"}]
    with pytest.raises(NotRun, match="1 of 2 packages could not be looked up, such as two"):
        dependencies.check_complete({"one": "1", "two": "2"}, answered)


def test_a_lock_file_without_packages_fails_rather_than_pass(locks: Tree, database: str) -> None:
    locks.write("pipelines/requirements.lock", "# nothing\n")
    with pytest.raises(ScanFailed, match="pins no package"):
        dependencies.scan(locks.top, database)


@pytest.mark.parametrize("lock", dependencies.LOCKS)
def test_the_lock_files_of_this_repository_can_be_read(lock: str) -> None:
    assert len(dependencies.packages(TOP / lock)) > 20


def test_no_lock_file_of_this_repository_is_forgotten() -> None:
    if not (TOP / ".git").exists():
        pytest.skip("what belongs to the repository is only known beside .git")
    tracked = subprocess.check_output(["git", "ls-files", "*.lock"], cwd=TOP, text=True).split()
    assert set(tracked) == set(dependencies.LOCKS)
