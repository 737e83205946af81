"""One run: k6 submits jobs and reads some, a worker of the SDK does them, and both counts have to agree."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatchd import TaskContext, Worker
from perf.bench import k6
from perf.bench.failure import BenchFailed
from perf.bench.latencies import Latencies
from perf.load.profiles import Profile

SCRIPT = Path(__file__).with_name("load.js")
READ_EVERY = 10
"""Every tenth job is read back and compared."""
PAYLOAD_BYTES = 256
SLOTS = 200
DONE_WITHIN_S = 60.0
"""How long after the last submit every acknowledged job has to be done."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Something that must hold, in k6's terms."""

    metric: str
    expression: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What happened. `done` counts jobs that the worker did; a job whose submit failed may be one of them.

    `last_done_after_s` is how long after the end of the arrivals the last job was done.
    """

    acknowledged: int
    done: int
    compared: int
    failed: int
    dropped: int
    last_done_after_s: float
    submit: Latencies
    get: Latencies
    thresholds: list[Threshold]

    @property
    def missed(self) -> list[str]:
        """Every threshold that was not met, and acknowledged jobs that nobody did."""
        missed = [f"{each.metric} {each.expression}" for each in self.thresholds if not each.is_met]
        if self.done < self.acknowledged:
            missed.append(f"{self.acknowledged - self.done} acknowledged jobs were not done within {DONE_WITHIN_S:g} s")
        return missed


@dataclass(slots=True)
class Doings:
    """The jobs that were done, each counted once however often it was tried."""

    jobs: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, job_id: str) -> None:
        self.jobs.add(job_id)
        self.changed.set()

    async def reach(self, count: int) -> None:
        """Returns once so many jobs are done."""
        while len(self.jobs) < count:
            self.changed.clear()
            await self.changed.wait()


async def load(profile: Profile, control_plane: str, worker_gateway: str) -> Load:
    """Puts the load of a profile on an installation. Raises BenchFailed if nothing could be measured."""
    # A capability of its own, so that this run's worker gets this run's jobs and no others.
    job_type = f"load-{secrets.token_hex(6)}.noop"
    worker = Worker(worker_gateway, max_concurrency=SLOTS)
    doings = Doings()

    @worker.task(job_type)
    async def work(payload: bytes, context: TaskContext) -> None:
        doings.add(context.job_id)

    serving = asyncio.create_task(worker.serve(), name="worker")
    try:
        metrics = await submit(profile, control_plane, job_type)
        acknowledged = int(_values(metrics, "acknowledged").get("count", 0))
        ended = time.monotonic()
        waiting = asyncio.create_task(doings.reach(acknowledged), name="all are done")
        # The worker ends by itself only if the gateway refuses it for good.
        await asyncio.wait({waiting, serving}, timeout=DONE_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return _read(metrics, acknowledged, len(doings.jobs), time.monotonic() - ended)
    finally:
        worker.stop()
        await serving


async def submit(profile: Profile, control_plane: str, job_type: str) -> dict[str, Any]:
    """Lets the jobs of a profile arrive, and returns k6's metrics. Raises BenchFailed."""
    settings = {
        "ADDRESS": control_plane,
        "JOB_TYPE": job_type,
        "PROFILE": profile.to_json(),
        "READ_EVERY": READ_EVERY,
        "PAYLOAD_BYTES": PAYLOAD_BYTES,
        "PROTO_FOLDER": k6.PROTO_FOLDER,
    }
    return await k6.run(SCRIPT, settings)


def _read(metrics: dict[str, Any], acknowledged: int, done: int, last_done_after_s: float) -> Load:
    return Load(
        acknowledged=acknowledged,
        done=done,
        compared=int(_values(metrics, "compared").get("count", 0)),
        # k6 counts under "passes" how often a rate was true.
        failed=int(_values(metrics, "failed").get("passes", 0)),
        dropped=int(_values(metrics, "dropped_iterations").get("count", 0)),
        last_done_after_s=round(last_done_after_s, 3),
        submit=_latencies(metrics, "SubmitJob"),
        get=_latencies(metrics, "GetJob"),
        thresholds=[
            Threshold(metric, expression, verdict["ok"])
            for metric, found in metrics.items()
            for expression, verdict in found.get("thresholds", {}).items()
            if expression != "max>=0"
        ],
    )


def _values(metrics: dict[str, Any], name: str) -> dict[str, float]:
    values: dict[str, float] = metrics.get(name, {}).get("values", {})
    return values


def _latencies(metrics: dict[str, Any], rpc: str) -> Latencies:
    trend = _values(metrics, f"grpc_req_duration{{rpc:{rpc}}}")
    if not trend.get("count"):
        raise BenchFailed(f"no call of {rpc} was answered: is there a control-plane, and is it well?")
    percentiles = (trend[name] for name in ("avg", "med", "p(90)", "p(95)", "p(99)", "max"))
    return Latencies(int(trend["count"]), *percentiles)
