"""A run from beginning to end: one installation with the settings as shipped, one step after the other.

::

    pgbench ▸ idle memory ▸ heartbeats ▸ open loop ▸ one caller ▸ backlog ▸ 64 callers ▸ loaded memory
            ▸ roles stop ▸ pgbench

Every step compares its own count with the database; the first that fails ends the run.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role
from perf.bench import k6, machine, yardstick
from perf.bench.backlog import Backlog, Drained, Filled, drain, fill
from perf.bench.callers import LoneCaller, LoneCalls, submit_one_by_one
from perf.bench.driver import in_own_process
from perf.bench.failure import BenchFailed, require_equal
from perf.bench.heartbeats import Fleet, Heartbeats, send_heartbeats
from perf.bench.open_loop import Arrivals, EndToEnd, submit_and_work
from perf.bench.plan import Plan
from perf.bench.results import Results, RoleMemory, Yardsticks
from perf.bench.usage import Usage

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
_STOP_ROLE_S = 20.0


async def run(plan: Plan, data_dir: Path, console: Console, profiling: dict[str, str]) -> Results:
    """Measures everything. Raises BenchFailed, and whatever keeps the installation from starting."""
    # Taken first, for it is this code that runs.
    source = machine.describe_source()
    described = await machine.describe_machine(data_dir)
    steps = Steps(console)
    with steps.step("start PostgreSQL, Valkey and the three roles"):
        installation = Installation(data_dir, _environ(profiling))
        await installation.start()
    try:
        return await Run(plan, installation, steps).measure(source, described)
    finally:
        await asyncio.shield(installation.stop())


class Steps:
    """Says on the terminal what happens now, for how long, and what came of it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Names what happens in a block, with a running clock on a terminal."""
        if not self._console.is_terminal:
            self._console.print(f"{title} …", highlight=False)
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task(title, total=None)
            yield
        self._console.print(title, highlight=False)

    def tell(self, outcome: str) -> None:
        """Says what a step found."""
        self._console.print(f"  {outcome}", highlight=False)


class Run:
    """The steps on an installation that is ready."""

    def __init__(self, plan: Plan, installation: Installation, steps: Steps) -> None:
        self._plan = plan
        self._installation = installation
        self._steps = steps
        self._usage = Usage(installation)
        self._rows: dict[str, dict[str, int]] = {}
        self._control_plane = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
        self._gateway = installation.of_role(Role.WORKER_GATEWAY)[0].grpc_address

    async def measure(self, source: machine.Source, described: machine.Machine) -> Results:
        """All steps in order."""
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        versions = await machine.describe_versions(self._installation)
        postgres_settings = await machine.describe_settings(self._installation)
        await yardstick.prepare(self._postgres)
        before = await self._pgbench("pgbench before")
        async with self._usage.sampling():
            await asyncio.sleep(self._plan.settle_s)
            idle = self._usage.memory()
            heartbeats = await self._heartbeats()
            end_to_end = await self._open_loop()
            lone_caller, lone_k6 = await self._lone_callers()
            filled, drained = await self._backlog()
            callers = await self._callers()
            await asyncio.sleep(self._plan.settle_s)
            loaded = self._usage.memory()
        # What the callers left behind would keep the scheduler at work.
        for process in self._installation.processes.values():
            await process.stop(_STOP_ROLE_S)
        after = await self._pgbench("pgbench after")
        return Results(
            measured_at=measured_at,
            source=source,
            machine=described,
            versions=versions,
            postgres_settings=postgres_settings,
            plan=self._plan,
            yardstick=Yardsticks(before, after),
            heartbeats=heartbeats,
            end_to_end=end_to_end,
            lone_caller=lone_caller,
            lone_k6=lone_k6,
            filled=filled,
            drained=drained,
            callers=callers,
            memory={
                name: RoleMemory(idle[name], loaded[name], self._usage.peak_rss_mib[name])
                for name in self._installation.processes
            },
            cores=self._usage.cores,
            rows_in_database=self._rows,
        )

    @property
    def _postgres(self) -> EmbeddedPostgres:
        if self._installation.postgres is None:
            raise BenchFailed("the installation has no PostgreSQL of its own")
        return self._installation.postgres

    async def _pgbench(self, title: str) -> yardstick.Inserts:
        with self._steps.step(title):
            async with self._usage.step(title):
                inserts = await yardstick.measure(self._postgres, self._plan.pgbench_clients, self._plan.pgbench_s)
        self._steps.tell(f"{inserts.jobs_a_second:,.0f} jobs/s from {inserts.clients} clients")
        return inserts

    async def _heartbeats(self) -> Heartbeats:
        plan = self._plan
        with self._steps.step(f"heartbeats of {plan.workers} workers"):
            async with self._usage.step("heartbeats"):
                order = Fleet(
                    self._gateway,
                    "idle",
                    plan.workers,
                    plan.heartbeats_a_second,
                    plan.heartbeats_warm_up_s,
                    plan.heartbeats_s,
                )
                heartbeats = await in_own_process(send_heartbeats, order)
        sessions = await self._fetchval("select count(*) from worker_sessions where worker_id like 'bench-heart-%'")
        require_equal("heartbeats", heartbeats.workers, sessions)
        self._rows["heartbeats"] = {"worker_sessions": sessions}
        self._steps.tell(f"ack p50 {heartbeats.ack.p50_ms:.2f} ms, p95 {heartbeats.ack.p95_ms:.2f} ms")
        return heartbeats

    async def _open_loop(self) -> EndToEnd:
        plan = self._plan
        with self._steps.step(f"open loop at {plan.open_loop_rate:g} jobs/s"):
            async with self._usage.step("open loop"):
                order = Arrivals(
                    control_plane=self._control_plane,
                    gateway=self._gateway,
                    job_type="open.noop",
                    capability="open",
                    rate=plan.open_loop_rate,
                    warm_up_s=plan.open_loop_warm_up_s,
                    measured_s=plan.open_loop_s,
                    streams=plan.open_loop_streams,
                    slots=plan.open_loop_slots,
                    payload_bytes=plan.payload_bytes,
                )
                found = await in_own_process(submit_and_work, order)
        await self._compare("open", "succeeded", found.succeeded)
        self._steps.tell(f"start p50 {found.start.p50_ms:.2f} ms, p99 {found.start.p99_ms:.2f} ms")
        return found

    async def _lone_callers(self) -> tuple[LoneCalls, k6.Submits]:
        plan = self._plan
        with self._steps.step("one caller (Python)"):
            async with self._usage.step("one caller (Python)"):
                order = LoneCaller(self._control_plane, "lone.noop", plan.lone_calls, plan.payload_bytes)
                lone = await in_own_process(submit_one_by_one, order)
        await self._compare("lone", "active", lone.acknowledged)
        self._steps.tell(f"ack p50 {lone.ack.p50_ms:.2f} ms")
        with self._steps.step("one caller (k6)"):
            async with self._usage.step("one caller (k6)"):
                submits = await self._k6("lonek6", callers=1, warm_up_s=1, measured_s=plan.lone_k6_s)
        self._steps.tell(f"ack p50 {submits.ack.p50_ms:.2f} ms")
        return lone, submits

    async def _backlog(self) -> tuple[Filled, Drained]:
        plan = self._plan
        order = Backlog(
            control_plane=self._control_plane,
            gateway=self._gateway,
            job_type="drain.noop",
            capability="drain",
            jobs=plan.backlog_jobs,
            streams=plan.backlog_streams,
            slots=plan.backlog_slots,
            payload_bytes=plan.payload_bytes,
        )
        with self._steps.step(f"submit a backlog of {plan.backlog_jobs:,}"):
            async with self._usage.step("backlog submit"):
                filled = await in_own_process(fill, order)
        await self._compare("drain", "active", filled.acknowledged)
        self._steps.tell(f"{filled.jobs_a_second:,.0f} jobs/s")
        with self._steps.step("drain it"):
            async with self._usage.step("backlog drain"):
                drained = await in_own_process(drain, order)
        require_equal("drain, executions assigned and acked", drained.assigned, drained.acked)
        await self._compare("drain", "succeeded", drained.acked)
        self._steps.tell(f"{drained.jobs_a_second:,.0f} jobs/s")
        return filled, drained

    async def _callers(self) -> k6.Submits:
        plan = self._plan
        with self._steps.step(f"{plan.callers} callers (k6)"):
            async with self._usage.step(f"{plan.callers} callers"):
                submits = await self._k6(
                    "unary", callers=plan.callers, warm_up_s=plan.callers_warm_up_s, measured_s=plan.callers_s
                )
        self._steps.tell(f"{submits.submits_a_second:,.0f} submits/s, {submits.compared} jobs read back")
        return submits

    async def _k6(self, capability: str, *, callers: int, warm_up_s: int, measured_s: int) -> k6.Submits:
        submits = await k6.submit(
            self._control_plane,
            f"{capability}.noop",
            callers=callers,
            warm_up_s=warm_up_s,
            measured_s=measured_s,
            payload_bytes=self._plan.payload_bytes,
        )
        await self._compare(capability, "active", submits.acknowledged)
        return submits

    async def _compare(self, capability: str, state: str, counted: int) -> None:
        """Each driver has a capability of its own, so its jobs are found by it."""
        jobs = await self._fetchval("select count(*) from jobs where capability = $1 and state = $2", capability, state)
        require_equal(f"{capability}, jobs {state}", counted, jobs)
        executions = await self._fetchval("select count(*) from executions where capability = $1", capability)
        require_equal(f"{capability}, executions", counted, executions)
        self._rows[capability] = {state: jobs, "executions": executions}

    async def _fetchval(self, query: str, *arguments: str) -> int:
        connection = await asyncpg.connect(self._installation.database_url)
        try:
            return int(await connection.fetchval(query, *arguments))
        finally:
            await connection.close()


def _environ(profiling: dict[str, str]) -> dict[str, str]:
    """As shipped: nothing that the caller's environment says about dispatchd gets in."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | profiling
