"""Unary submits by real k6, which knows nothing of us but the contract."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.bench.failure import BenchFailed
from perf.bench.latencies import Latencies

PROTO_FOLDER = Path(__file__).parents[2] / "proto"
SCRIPT = Path(__file__).with_name("submit.js")
_THRESHOLD_MISSED = 99
SAMPLE_EVERY = 50
"""Each caller reads its first job back, and then every fiftieth."""


@dataclass(frozen=True, slots=True)
class Submits:
    """What k6 did: all acknowledged jobs, and those of the measured window."""

    callers: int
    seconds: int
    acknowledged: int
    measured: int
    submits_a_second: float
    compared: int
    ack: Latencies


def program() -> str:
    """The k6 of this environment. Raises BenchFailed if there is none."""
    beside = Path(sys.executable).with_name("k6")
    found = str(beside) if beside.exists() else shutil.which("k6")
    if found is None:
        raise BenchFailed("k6 is not installed: run `make setup`")
    return found


async def submit(
    address: str, job_type: str, *, callers: int, warm_up_s: int, measured_s: int, payload_bytes: int
) -> Submits:
    """Submits for some seconds from concurrent callers. Raises BenchFailed if any call failed or any job differed."""
    settings = {
        "ADDRESS": address,
        "JOB_TYPE": job_type,
        "CALLERS": callers,
        "WARM_UP_S": warm_up_s,
        "MEASURED_S": measured_s,
        "PAYLOAD_BYTES": payload_bytes,
        "SAMPLE_EVERY": SAMPLE_EVERY,
        "PROTO_FOLDER": PROTO_FOLDER,
    }
    metrics = await run(SCRIPT, settings)
    wrong = _count(metrics, "wrong")
    trend = metrics.get("grpc_req_duration{phase:measured}", {}).get("values", {})
    if wrong or not trend.get("count"):
        raise BenchFailed(f"k6: {wrong} calls went wrong, {trend.get('count', 0)} were measured")
    return Submits(
        callers=callers,
        seconds=measured_s,
        acknowledged=_count(metrics, "acknowledged"),
        measured=int(trend["count"]),
        submits_a_second=trend["count"] / measured_s,
        compared=_count(metrics, "compared"),
        ack=Latencies(
            int(trend["count"]),
            trend["avg"],
            trend["med"],
            trend["p(90)"],
            trend["p(95)"],
            trend["p(99)"],
            trend["max"],
        ),
    )


async def run(script: Path, settings: Mapping[str, object]) -> dict[str, Any]:
    """Runs a script, which prints its metrics as JSON, and returns them, whether its thresholds were met or not.

    Raises BenchFailed if k6 fails in any other way.
    """
    process = await asyncio.create_subprocess_exec(
        program(),
        "run",
        "--quiet",
        "--no-usage-report",
        "--no-color",
        *(f"--env={name}={value}" for name, value in settings.items()),
        str(script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/")},
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode not in (0, _THRESHOLD_MISSED):
        raise BenchFailed(f"k6 failed with exit code {process.returncode}:\n{errors.decode(errors='replace')[-4000:]}")
    metrics: dict[str, Any] = json.loads(output)
    return metrics


def _count(metrics: dict[str, Any], name: str) -> int:
    return int(metrics.get(name, {}).get("values", {}).get("count", 0))
