"""Honest callers: one at work all the while that others misbehave, and afterwards one of every role."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dispatchd import AsyncClient, Job, JobStatus, Worker
from dispatchd.domain.access import METHODS, AccessRole
from dispatchd.entrypoints.settings import Role
from fuzz.site import FuzzSite
from fuzz.stored import some_jobs
from tokens_for_tests import token

PATIENCE_S = 60.0
_PAUSE_S = 0.25
_JOBS_READ = 300
_SUBMITTERS = sorted(METHODS["JobService.SubmitJob"])
_CONNECTORS = sorted(METHODS["WorkerService.Connect"])


@dataclass(slots=True)
class Bystander:
    """What became of its jobs."""

    done: int = 0
    complaints: list[str] = field(default_factory=list)


@asynccontextmanager
async def bystander(site: FuzzSite) -> AsyncIterator[Bystander]:
    """Submits a job every quarter of a second and does it, and must not notice anything of the others."""
    noticed = Bystander()
    async with _worker(site, "honest", AccessRole.SERVICE), _client(site, AccessRole.SUBMITTER) as client:
        submitting = asyncio.create_task(_submit(client, noticed), name="bystander")
        try:
            yield noticed
        finally:
            submitting.cancel()
            await asyncio.wait({submitting})
        if not submitting.cancelled() and submitting.exception() is not None:
            noticed.complaints.append(f"the bystander failed: {submitting.exception()!r}")


async def _submit(client: AsyncClient, noticed: Bystander) -> None:
    while True:
        complaint = await _one(client, "honest", noticed.done)
        noticed.complaints += [complaint] if complaint else []
        noticed.done += 1
        await asyncio.sleep(_PAUSE_S)


async def work_of_every_role(site: FuzzSite) -> list[str]:
    """Jobs of every role that may submit, done by workers of every role that may connect; what went wrong."""
    complaints = []
    for connector in _CONNECTORS if site.auth else [AccessRole.SERVICE]:
        name = f"afterwards-{connector}"
        async with _worker(site, name, connector):
            for number, submitter in enumerate(_SUBMITTERS if site.auth else [AccessRole.SUBMITTER]):
                async with _client(site, submitter) as client:
                    complaint = await _one(client, name, number)
                complaints += [f"{submitter} to {connector}: {complaint}"] if complaint else []
    return complaints


async def read_everything(site: FuzzSite) -> list[str]:
    """Reads back what was stored, for nothing of it may make an answer impossible; what went wrong."""
    try:
        async with _client(site, AccessRole.ADMIN) as client, asyncio.timeout(PATIENCE_S):
            for job_id in await some_jobs(site.installation.database_url, _JOBS_READ):
                await client.get(job_id)
                async for _ in client.executions(job_id):
                    pass
            async for _ in client.dead_letters():
                pass
            async for _ in client.workers():
                pass
            await client.queues()
    except Exception as exc:
        return [f"what was stored can't be read back: {exc!r}"]
    return []


async def _one(client: AsyncClient, name: str, number: int) -> str:
    """One job from its submit to its end; what is wrong with it, or nothing."""
    job: Job | None = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            job = await client.submit(f"{name}.work", number, max_attempts=5, initial_backoff=0.1)
            job = await client.wait(job, timeout=PATIENCE_S)
    except Exception as exc:
        return f"an honest job failed: {exc!r} {job}"
    if job.status is not JobStatus.SUCCEEDED or json.loads(job.result or b"null") != [number, name]:
        return f"an honest job ended otherwise than it should: {job}"
    return ""


@asynccontextmanager
async def _worker(site: FuzzSite, name: str, role: AccessRole) -> AsyncIterator[None]:
    worker = Worker(site.address(Role.WORKER_GATEWAY), worker_id=name, token=token(name, role) if site.auth else None)

    @worker.task(f"{name}.work")
    async def work(payload: int) -> list[int | str]:
        return [payload, name]

    serving = asyncio.create_task(worker.serve(), name=f"worker {name}")
    try:
        yield
    finally:
        worker.drain()
        await asyncio.wait({serving}, timeout=PATIENCE_S)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@asynccontextmanager
async def _client(site: FuzzSite, role: AccessRole) -> AsyncIterator[AsyncClient]:
    shown = token(f"honest-{role}", role) if site.auth else None
    async with AsyncClient(site.address(Role.CONTROL_PLANE), token=shown) as client:
        yield client
