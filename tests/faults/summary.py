"""The summary of a whole run as JSON: what was done on what, how much each rule saw, and how soon things recovered."""

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

import asyncpg
from perf.bench.machine import describe_machine, describe_source
from redis.asyncio import Redis

from faults.recovery import Measurement
from faults.rounds import RoundReport
from faults.site import LEASE_S, RATE_PER_S, FaultSite

EVIDENCE = Path(__file__).parents[2] / "evidence" / "faults"
_PACKAGES = ("dispatchd", "grpcio", "asyncpg", "redis", "uvloop")


async def describe(site: FaultSite) -> dict[str, object]:
    """The machine, the code and the versions; asked before the first round, when the machine should be idle."""
    versions = {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES}
    connection = await asyncpg.connect(site.database_url)
    try:
        versions["postgres"] = str(await connection.fetchval("show server_version"))
    finally:
        await connection.close()
    async with Redis(host="127.0.0.1", port=site.valkey.port, password=site.redis_password) as redis:
        versions["valkey"] = (await redis.info("server"))["valkey_version"]
    machine = await describe_machine(site.folder)
    return {"machine": asdict(machine), "source": asdict(describe_source()), "versions": versions}


def summarize(
    kind: str,
    seed: int,
    circumstances: dict[str, object],
    faults: Sequence[str],
    left_out: Sequence[str],
    reports: Sequence[RoundReport],
) -> dict[str, object]:
    """All rounds together."""
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
        seen.update(report.coverage)
    return {
        "kind": kind,
        "seed": seed,
        **circumstances,
        "settings": {"lease_s": LEASE_S, "arrivals_per_s": 2 * RATE_PER_S, "replicas_of_each_role": 2},
        "faults": list(faults),
        "left_out": list(left_out),
        "rounds": len(reports),
        "steps": sum(report.steps for report in reports),
        "counts": dict(counts),
        "rules": dict(seen),
        "violations": [sentence for report in reports for sentence in report.violations],
        "remarks": [sentence for report in reports for sentence in report.remarks],
        "recovery": _recovery([measurement for report in reports for measurement in report.measurements]),
    }


def _recovery(measurements: Sequence[Measurement]) -> dict[str, dict[str, object]]:
    """By target and fault."""
    sorted_out: defaultdict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        sorted_out[measurement.what, measurement.fault].append(measurement)
    found: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for (what, fault), several in sorted_out.items():
        values = [measurement.value for measurement in several]
        found[what][fault] = {
            "most": several[0].most,
            "count": len(values),
            "median": round(median(values), 3),
            "worst": round(max(values), 3),
        }
    return dict(found)


def write(summary: dict[str, object], path: Path) -> None:
    """Writes it for people and programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")
