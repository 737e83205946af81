"""Looks for known vulnerabilities in the Python packages of every lock file, with pip-audit and OSV's database."""

import json
import re
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dispatchd_pipelines.scans.finding import Finding, NotRun, ScanFailed
from dispatchd_pipelines.scans.programs import run

LOCKS = ("uv.lock", "infra/uv.lock", "pipelines/requirements.lock", "pipelines/scanners/requirements.lock")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)


def scan(root: Path, database: str | None = None) -> list[Finding]:
    """The known vulnerabilities. Raises NotRun unless every package of every lock file could be looked up."""
    locks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for lock in LOCKS:
        for package in packages(root / lock):
            locks[package].append(lock)
    # pip-audit takes a package in one version at a time.
    findings: list[Finding] = []
    left = sorted(locks)
    while left:
        once = dict(left)
        for known in _audit(once, root, database):
            name, version = known["name"], known["version"]
            findings += [_finding(name, version, locks[name, once[name]], each) for each in known["vulns"]]
        left = [each for each in left if once[each[0]] != each[1]]
    return findings


def packages(lock: Path) -> list[tuple[str, str]]:
    """The packages that a lock file pins, for all platforms, with their versions. Raises ScanFailed if it has none."""
    text = lock.read_text("utf-8")
    if lock.name == "uv.lock":
        listed = [each for each in tomllib.loads(text)["package"] if "registry" in each["source"]]
        pinned = [(each["name"], each["version"]) for each in listed]
    else:
        pinned = _PINNED.findall(text)
    if not pinned:
        raise ScanFailed(f"{lock} pins no package that can be read")
    return sorted(set(pinned))


def _audit(pinned: Mapping[str, str], root: Path, database: str | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()), "utf-8")
        command = ["pip-audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json"]
        command += ["--vulnerability-service=osv", *([f"--osv-url={database}"] if database else [])]
        done = run([*command, f"--requirement={requirements}"], root, answers=[0, 1])
    try:
        answered = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if "Connection" in last or "Timeout" in last or "ServiceError" in last:
            raise NotRun(f"the database of vulnerabilities does not answer: {last}") from error
        raise ScanFailed(f"pip-audit gave no report: {last}") from error
    check_complete(pinned, answered)
    return list(answered)


def check_complete(pinned: Mapping[str, str], answered: Iterable[Mapping[str, Any]]) -> None:
    """pip-audit calls it a success to have looked up nothing at all."""
    looked_up = {each["name"] for each in answered if "skip_reason" not in each}
    missing = sorted(pinned.keys() - looked_up)
    if missing:
        raise NotRun(f"{len(missing)} of {len(pinned)} packages could not be looked up, such as {missing[0]}")


def _finding(name: str, version: str, locks: Iterable[str], vulnerability: Mapping[str, Any]) -> Finding:
    fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
    known_as = ", ".join(vulnerability["aliases"]) or "nothing else"
    message = f"is in {' and '.join(locks)}; also known as {known_as}; fixed in {fixed}"
    return Finding(vulnerability["id"], f"{name}=={version}", message)
