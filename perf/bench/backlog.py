"""A backlog: many jobs submitted in batches, then worked off by workers that take one message an assignment."""

import asyncio
import time
from dataclasses import dataclass, field

from dispatchd.v1 import dispatchd_pb2 as pb
from perf.bench.failure import BenchFailed
from perf.bench.streams import SUBMIT_JOBS, UnaryBytes, WorkerStream, open_channel

JOBS_A_CALL = 500
CALLS_AT_ONCE = 2
_LONGEST_DRAIN_S = 180.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """What to do."""

    control_plane: str
    gateway: str
    job_type: str
    capability: str
    jobs: int
    streams: int
    slots: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Filled:
    """The submits: each job acknowledged after its commit."""

    acknowledged: int
    seconds: float
    jobs_a_second: float


@dataclass(frozen=True, slots=True)
class Drained:
    """The work: from the first assignment to the last result's ack. `assigned` counts different executions."""

    assigned: int
    acked: int
    seconds: float
    jobs_a_second: float


@dataclass(slots=True)
class _Progress:
    left: int
    first_at: float = 0.0
    last_at: float = 0.0
    assigned: set[str] = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)


async def fill(order: Backlog) -> Filled:
    """Submits all jobs, 500 a call, two calls at a time."""
    payload = b"x" * order.payload_bytes
    numbers = iter(range(0, order.jobs, JOBS_A_CALL))
    acknowledged = 0

    async with open_channel(order.control_plane) as channel:
        await channel.channel_ready()
        submit_jobs: UnaryBytes = channel.unary_unary(SUBMIT_JOBS)

        async def submit() -> None:
            nonlocal acknowledged
            for first in numbers:
                items = [
                    pb.SubmitJobsItem(
                        request=pb.SubmitJobRequest(
                            job_type=order.job_type, payload=payload, idempotency_key=f"{order.job_type}-{number}"
                        )
                    )
                    for number in range(first, min(first + JOBS_A_CALL, order.jobs))
                ]
                answer = await submit_jobs(pb.SubmitJobsRequest(items=items).SerializeToString(), timeout=30.0)
                for result in pb.SubmitJobsResponse.FromString(answer).results:
                    if result.WhichOneof("outcome") != "job":
                        raise BenchFailed(f"a job was refused: {result.error}")
                    acknowledged += 1

        began = time.perf_counter()
        async with asyncio.TaskGroup() as callers:
            for number in range(CALLS_AT_ONCE):
                callers.create_task(submit(), name=f"submit {number}")
        seconds = time.perf_counter() - began
    return Filled(acknowledged, seconds, acknowledged / seconds)


async def drain(order: Backlog) -> Drained:
    """Connects workers and works until every result is acked."""
    progress = _Progress(order.jobs)
    workers = [
        WorkerStream(order.gateway, f"bench-drain-{number}", order.capability, order.slots)
        for number in range(order.streams)
    ]
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(_work(worker, progress), name="work") for worker in workers]
        try:
            async with asyncio.timeout(_LONGEST_DRAIN_S):
                await progress.done.wait()
        except TimeoutError:
            raise BenchFailed(f"{progress.left} jobs were left after {_LONGEST_DRAIN_S:g} s") from None
        for task in working:
            task.cancel()
    for worker in workers:
        await worker.close()
    seconds = progress.last_at - progress.first_at
    return Drained(len(progress.assigned), order.jobs - progress.left, seconds, order.jobs / seconds)


async def _work(worker: WorkerStream, progress: _Progress) -> None:
    await worker.register()
    while True:
        message = await worker.read()
        if message.WhichOneof("payload") == "assignment":
            if not progress.first_at:
                progress.first_at = time.perf_counter()
            execution_id = message.assignment.execution_id
            progress.assigned.add(execution_id)
            await worker.succeed(execution_id)
        elif message.ack.execution_id:
            if message.ack.outcome != pb.ACK_OUTCOME_ACCEPTED:
                raise BenchFailed(f"a result was answered by {message}")
            progress.left -= 1
            if progress.left == 0:
                progress.last_at = time.perf_counter()
                progress.done.set()
