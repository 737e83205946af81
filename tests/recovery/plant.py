"""A whole installation under a steady load, with ledgers: what the submitter was told, what the workers did.

The promise that is checked: what was acknowledged ends, and no job runs at two workers at once under valid leases.
"""

import asyncio
import itertools
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import asyncpg

from dispatchd import AsyncClient, DeadlineExceeded, Overloaded, Unavailable
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role

LEASE = timedelta(seconds=2)
PROGRAM = Path(__file__).parent / "recording_worker.py"
JOB_SECONDS = 0.05
PACE_S = 0.01
PATIENCE_S = 60.0


@dataclass(slots=True)
class Worked:
    """One execution as its worker saw it, in seconds of the monotonic clock; `end` None if it never ended there."""

    job_id: str
    execution_id: str
    begin: float
    end: float | None = None


@dataclass(slots=True)
class Plant:
    """An installation, its workers and the submitter's ledger."""

    installation: Installation
    folder: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)

    def start_worker(self, gateway: int = 0) -> "subprocess.Popen[bytes]":
        address = self.installation.of_role(Role.WORKER_GATEWAY)[gateway].grpc_address
        number = len(self.workers)
        log = (self.folder / f"worker-{number}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, str(PROGRAM), address, str(self.folder / f"worker-{number}.ledger")],
            stdout=log,
            stderr=log,
        )
        log.close()
        self.workers.append(worker)
        return worker

    async def submit(self, count: int) -> None:
        """Submits jobs at a steady pace; a job is in the ledger once it is acknowledged."""
        address = self.installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
        async with AsyncClient(address) as client:
            for number in range(count):
                key = f"{len(self.acked)}-{number}"
                self.acked.append(await self._submit_surely(client, key))
                await asyncio.sleep(PACE_S)

    async def _submit_surely(self, client: AsyncClient, key: str) -> str:
        while True:
            try:
                job = await client.submit(
                    "recovery.work",
                    JOB_SECONDS,
                    idempotency_key=key,
                    max_attempts=20,
                    initial_backoff=0.1,
                    max_backoff=0.5,
                    call_timeout=5,
                )
            except (Unavailable, DeadlineExceeded, Overloaded):
                continue
            return job.job_id

    async def wait_until_worked(self, count: int) -> None:
        """Until so many executions were begun."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while len(self.worked()) < count:
            assert asyncio.get_running_loop().time() < deadline, f"only {len(self.worked())} of {count} were begun"
            await asyncio.sleep(0.02)

    async def unfinished(self) -> dict[str, str]:
        """Acknowledged jobs that have not succeeded, with their state."""
        rows = await self._rows("select 'job_' || replace(job_id::text, '-', '') as job_id, state from jobs")
        states = {row["job_id"]: row["state"] for row in rows}
        return {
            job_id: states.get(job_id, "lost") for job_id in self.acked if states.get(job_id, "lost") != "succeeded"
        }

    async def attempts_burned(self) -> int:
        """Executions that ended as failed or lost, in all."""
        [row] = await self._rows(
            "select count(*) as burned from executions where end_reason in ('failed', 'lease_lost', 'timed_out')"
        )
        burned: int = row["burned"]
        return burned

    async def _ended_as_lost(self) -> set[str]:
        rows = await self._rows(
            "select 'exec_' || replace(execution_id::text, '-', '') as id "
            "from executions where end_reason = 'lease_lost'"
        )
        return {row["id"] for row in rows}

    async def _rows(self, query: str) -> "list[asyncpg.Record]":
        connection = await asyncpg.connect(self.installation.database_url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def wait_until_all_succeeded(self) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while unfinished := await self.unfinished():
            assert asyncio.get_running_loop().time() < deadline, f"not finished: {dict(list(unfinished.items())[:5])}"
            await asyncio.sleep(0.1)

    def worked(self) -> list[Worked]:
        """The workers' ledgers together."""
        found: dict[tuple[Path, str], Worked] = {}
        for ledger in sorted(self.folder.glob("*.ledger")):
            for line in ledger.read_text().splitlines():
                fact, job_id, execution_id, nanoseconds = line.split()
                at = int(nanoseconds) / 1e9
                if fact == "begin":
                    found[ledger, execution_id] = Worked(job_id, execution_id, at)
                else:
                    found[ledger, execution_id].end = at
        return list(found.values())

    async def overlaps(self) -> list[tuple[Worked, Worked]]:
        """Pairs of executions of one job that ran at the same time, both under a lease: an execution whose lease was
        lost may still be running where nobody can stop it (a frozen process)."""
        lost = await self._ended_as_lost()
        by_job: defaultdict[str, list[Worked]] = defaultdict(list)
        for worked in self.worked():
            by_job[worked.job_id].append(worked)
        pairs = []
        for executions in by_job.values():
            executions.sort(key=lambda worked: worked.begin)
            for earlier, later in itertools.pairwise(executions):
                is_overlap = earlier.end is not None and earlier.end > later.begin
                if is_overlap and earlier.execution_id not in lost:
                    pairs.append((earlier, later))
        return pairs


@asynccontextmanager
async def running_plant(folder: Path) -> AsyncIterator[Plant]:
    """Two gateways, two schedulers, one control-plane that are started again when they end; a short lease."""
    installation = Installation(
        folder / "installation",
        {
            "LEASE_DURATION": f"{LEASE.total_seconds():g}s",
            "WORKER_HEARTBEAT_TTL": "6s",
            "SHUTDOWN_TIMEOUT_SECONDS": "3",
        },
        schedulers=2,
        worker_gateways=2,
        postgres_settings={"fsync": "off"},
    )
    plant = Plant(installation, folder)
    async with installation:
        supervisor = asyncio.create_task(installation.supervise(), name="supervisor")
        try:
            plant.start_worker(0)
            plant.start_worker(1)
            yield plant
        finally:
            for worker in plant.workers:
                worker.kill()
                worker.wait()
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
