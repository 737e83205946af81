"""Looks for known vulnerabilities in the Go programs that tests of infra/ build, with govulncheck."""

import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from dispatchd_pipelines.scans import sarif
from dispatchd_pipelines.scans.finding import Finding, NotRun, ScanFailed
from dispatchd_pipelines.scans.programs import run

TOOLS = Path("pipelines/scanners")
"""The Go module whose go.mod pins govulncheck and actionlint."""

MODULES = Path("infra/tools")
DATABASE = "https://vuln.go.dev"


def tool(name: str, *arguments: str) -> list[str]:
    """The command that builds this tool, unless that is done, and runs it; to be run in TOOLS."""
    return ["go", "tool", name, *arguments]


def environment() -> dict[str, str]:
    """The variables for Go: the version that is there is the one that is used."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}


def scan(root: Path, database: str | None = None, patience_s: float = 20.0) -> list[Finding]:
    """The vulnerabilities whose code the programs can reach. Raises NotRun if the database does not answer."""
    modules = sorted(path.parent for path in (root / MODULES).glob("*/go.mod"))
    if not modules:
        raise ScanFailed(f"there is no Go module in {MODULES}")
    database = database or DATABASE
    # Before a minute goes into building govulncheck.
    try:
        with urllib.request.urlopen(f"{database}/index/db.json", timeout=patience_s):
            pass
    except (OSError, HTTPException) as error:
        raise NotRun(f"the database of Go's vulnerabilities does not answer: {error}") from error
    return [each for module in modules for each in _of(module, root, database)]


def _of(module: Path, root: Path, database: str) -> list[Finding]:
    what = "./..." if any(module.glob("*.go")) else "tool"
    command = tool("govulncheck", "-C", str(module.resolve()), f"-db={database}", "-format=sarif", what)
    said = run(command, root / TOOLS, answers=[0], environment=environment()).stdout
    place = str(module.relative_to(root) / "go.mod")
    # It calls it an error when the vulnerable code is called, and less when that is merely there.
    return [Finding(each.rule, place, each.message) for each in sarif.read(said, only_errors=True)]
