"""The run: an installation, two workers, thousands of jobs, two kills, and a look at what is left.

::

    start ──▶ BURST: everything but the last part is submitted at once
                 │  a third has ended: SIGKILL for worker-2
                 │  two thirds have ended: SIGKILL for the worker-gateway that worker-1 is on
                 ▼  all have ended; nothing that was killed is started again
              STEADY: the rest at 200 jobs a second, to see how soon a job starts when nothing waits before it
                 ▼
              ledger and database are compared ──▶ report
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from dispatchd import AsyncClient, WorkerStatus
from dispatchd.demo.kills import Kill, plan_kills
from dispatchd.demo.ledger import LedgerWriter, check_ledger
from dispatchd.demo.readings import Readings, open_readings
from dispatchd.demo.records import ListedFile, read_sites
from dispatchd.demo.report import Report, make_report
from dispatchd.demo.submitter import Submitter
from dispatchd.demo.tasks import check_file
from dispatchd.demo.worker_process import WorkerProcess, target_of
from dispatchd.entrypoints.installation import Installation, InstallationError
from dispatchd.entrypoints.settings import Role

STEADY_JOBS = 1_000
STEADY_SHARE = 0.2
STEADY_JOBS_PER_S = 200.0

# Short, so that what a killed worker held comes back within the demo.
LEASE = "3s"
# Everything else keeps its default: settings for other installations must not leak into this one.
_KEPT_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")

_LOOK_EVERY_S = 0.05
_WORKERS_READY_S = 30.0
LONGEST_RUN_S = 150.0


class Screen(Protocol):
    """Where the run says what happens."""

    def say(self, text: str) -> None:
        """An event, in a sentence."""

    def begin(self, total: int) -> None:
        """So many jobs are to be done."""

    def ended(self, count: int) -> None:
        """So many jobs have ended."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The report, and what is wrong with which files."""

    report: Report
    findings: Sequence[str]


async def audit(sites: Sequence[Path], folder: Path, screen: Screen, servers: Mapping[str, str]) -> Audit:
    """Audits the distributions in these site folders; data, logs and the ledger are in `folder`, which is new.

    `servers` has the settings of given servers, or nothing if PostgreSQL and Valkey are to be started too.

    Raises InstallationError, EmbeddedServerError, RoleFailed or DispatchdError if the demo itself can't be carried on.
    """
    files = await asyncio.to_thread(read_sites, sites)
    distributions = len({file.distribution for file in files})
    screen.say(f"{len(files):,} files of {distributions} distributions are listed with a SHA-256.")
    environ = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    settings = {**environ, **servers, "LEASE_DURATION": LEASE, "SHUTDOWN_TIMEOUT_SECONDS": "3"}
    installation = Installation(folder, settings, worker_gateways=2)
    roles = "a control-plane, a scheduler and two worker-gateways start"
    if servers:
        await _check_empty(servers["DATABASE_URL"])
        screen.say(f"On the servers that are given, {roles}.")
    else:
        screen.say(f"PostgreSQL, Valkey, {roles}.")
    async with installation, _workers(installation, environ, folder) as workers:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        async with AsyncClient(control_plane.grpc_address) as client, open_readings(installation.database_url) as read:
            await _until_ready(client, workers)
            screen.say("Two workers are connected.")
            return await _run(files, folder / "ledger", installation, workers, client, read, screen)


async def _check_empty(database_url: str) -> None:
    """Every job in the database counts as the demo's own, and what serves it is killed: it must be nobody else's."""
    try:
        async with open_readings(database_url) as read:
            has_tables = await read.has_tables()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise InstallationError(f"The database of DATABASE_URL can't be used: {exc or type(exc).__name__}") from exc
    if has_tables:
        raise InstallationError("The database of DATABASE_URL is not empty: name a new one.")


async def _run(
    files: Sequence[ListedFile],
    ledger_path: Path,
    installation: Installation,
    workers: Sequence[WorkerProcess],
    client: AsyncClient,
    read: Readings,
    screen: Screen,
) -> Audit:
    steady_count = min(STEADY_JOBS, round(len(files) * STEADY_SHARE))
    at_once, later = files[: len(files) - steady_count], files[len(files) - steady_count :]
    kills = plan_kills(len(at_once), workers, installation.of_role(Role.WORKER_GATEWAY), read)
    screen.begin(len(files))
    with LedgerWriter(ledger_path) as ledger:
        submitter = Submitter(client, ledger)
        try:
            async with asyncio.timeout(LONGEST_RUN_S):
                burst = await _while_watched(submitter.submit_at_once(at_once), len(at_once), kills, read, screen)
                screen.say(f"Now {len(later):,} jobs at {STEADY_JOBS_PER_S:g} a second, with what is left.")
                paced = submitter.submit_steadily(later, STEADY_JOBS_PER_S)
                steady = await _while_watched(paced, len(files), [], read, screen)
        except TimeoutError:
            screen.say(f"Not everything has ended within {LONGEST_RUN_S:g} s.")
            burst, steady = frozenset[str](), frozenset[str]()
    jobs = await read.jobs()
    ledger_check = check_ledger(ledger_path, {job.job_id: job.state for job in jobs})
    report = make_report(jobs, await read.executions(), ledger_check, burst=burst, steady=steady)
    return Audit(report, [job.last_error async for job in client.dead_letters(check_file.job_type)])


async def _while_watched(
    submitting: Coroutine[object, object, frozenset[str]],
    total: int,
    kills: Sequence[Kill],
    read: Readings,
    screen: Screen,
) -> frozenset[str]:
    """Submits, kills and shows progress until `total` jobs have ended; returns the ids of the submitted jobs."""
    async with asyncio.TaskGroup() as tasks:
        submitted = tasks.create_task(submitting, name="submitter")
        pending = list(kills)
        finished = 0
        while finished < total:
            await asyncio.sleep(_LOOK_EVERY_S)
            finished = await read.finished()
            screen.ended(finished)
            while pending and finished >= pending[0].at:
                screen.say(await pending.pop(0).carry_out())
    return submitted.result()


@asynccontextmanager
async def _workers(
    installation: Installation, environ: dict[str, str], folder: Path
) -> AsyncIterator[list[WorkerProcess]]:
    """Two workers: each starts at another gateway and knows both."""
    addresses = [gateway.grpc_address for gateway in installation.of_role(Role.WORKER_GATEWAY)]
    workers: list[WorkerProcess] = []
    try:
        for number, known in enumerate((addresses, addresses[::-1]), start=1):
            name = f"worker-{number}"
            workers.append(WorkerProcess(name, target_of(known), environ, folder / f"{name}.log"))
        yield workers
    finally:
        for worker in workers:
            await asyncio.shield(worker.stop())


async def _until_ready(client: AsyncClient, workers: Sequence[WorkerProcess]) -> None:
    wanted = {worker.worker_id for worker in workers}
    async with asyncio.timeout(_WORKERS_READY_S):
        while True:
            ready = {each.worker_id async for each in client.workers() if each.status is not WorkerStatus.OFFLINE}
            if wanted <= ready:
                return
            await asyncio.sleep(_LOOK_EVERY_S)
