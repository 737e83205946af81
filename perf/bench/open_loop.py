"""Jobs at a fixed mean rate over all three roles: from submit to start, and to the committed end.

One process submits and works, so that one clock times it all. Callers come by a Poisson process and never wait for
each other. A job *starts* when its assignment is read from a worker's stream, and has *succeeded* when the ack of its
result is, which leaves after the commit.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field

from dispatchd.v1 import dispatchd_pb2 as pb
from perf.bench.failure import BenchFailed
from perf.bench.latencies import Latencies, latencies
from perf.bench.streams import SUBMIT_JOB, UnaryBytes, WorkerStream, open_channel

_NUMBER_BYTES = 8
_LAST_JOBS_S = 30.0
_SEED = 7


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What to do."""

    control_plane: str
    gateway: str
    job_type: str
    capability: str
    rate: float
    warm_up_s: float
    measured_s: float
    streams: int
    slots: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """What was done: all jobs, and the latencies of those submitted in the measured time."""

    rate: float
    succeeded: int
    ack: Latencies
    start: Latencies
    success: Latencies
    behind_schedule: Latencies


@dataclass(slots=True)
class _Jobs:
    due_at: list[float]
    sent_at: list[float]
    acked_at: list[float]
    started_at: list[float]
    succeeded_at: list[float]
    number_of: dict[str, int] = field(default_factory=dict)
    unfinished: int = 0
    all_finished: asyncio.Event = field(default_factory=asyncio.Event)


async def submit_and_work(order: Arrivals) -> EndToEnd:
    """Submits for some seconds and works until every job has succeeded."""
    workers = [
        WorkerStream(order.gateway, f"bench-open-{number}", order.capability, order.slots)
        for number in range(order.streams)
    ]
    for worker in workers:
        await worker.register()
    jobs = _schedule(order)
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(_work(worker, jobs), name="work") for worker in workers]
        await _submit_all(order, jobs)
        try:
            async with asyncio.timeout(_LAST_JOBS_S):
                await jobs.all_finished.wait()
        except TimeoutError:
            raise BenchFailed(f"{jobs.unfinished} jobs had not succeeded after {_LAST_JOBS_S:g} s") from None
        for task in working:
            task.cancel()
    for worker in workers:
        await worker.close()
    return _figures(order, jobs)


def _schedule(order: Arrivals) -> _Jobs:
    chance = random.Random(_SEED)
    due_at = [0.0]
    while (following := due_at[-1] + chance.expovariate(order.rate)) < order.warm_up_s + order.measured_s:
        due_at.append(following)
    unknown = [0.0] * len(due_at)
    return _Jobs(due_at, [*unknown], [*unknown], [*unknown], [*unknown], unfinished=len(due_at))


async def _submit_all(order: Arrivals, jobs: _Jobs) -> None:
    filler = b"x" * (order.payload_bytes - _NUMBER_BYTES)
    requests = [
        pb.SubmitJobRequest(
            job_type=order.job_type,
            payload=number.to_bytes(_NUMBER_BYTES, "big") + filler,
            idempotency_key=f"{order.job_type}-{number}",
        ).SerializeToString()
        for number in range(len(jobs.due_at))
    ]
    async with open_channel(order.control_plane) as channel:
        await channel.channel_ready()
        submit_job: UnaryBytes = channel.unary_unary(SUBMIT_JOB)

        async def submit(number: int) -> None:
            jobs.sent_at[number] = time.perf_counter()
            await submit_job(requests[number], timeout=10.0)
            jobs.acked_at[number] = time.perf_counter()

        began = time.perf_counter()
        jobs.due_at = [began + offset for offset in jobs.due_at]
        async with asyncio.TaskGroup() as calls:
            for number, due_at in enumerate(jobs.due_at):
                ahead_s = due_at - time.perf_counter()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                calls.create_task(submit(number), name=f"submit {number}")


async def _work(worker: WorkerStream, jobs: _Jobs) -> None:
    while True:
        message = await worker.read()
        now = time.perf_counter()
        if message.WhichOneof("payload") == "assignment":
            execution_id = message.assignment.execution_id
            number = int.from_bytes(message.assignment.payload[:_NUMBER_BYTES], "big")
            if jobs.started_at[number]:
                raise BenchFailed(f"job {number} was assigned twice")
            jobs.started_at[number] = now
            jobs.number_of[execution_id] = number
            await worker.succeed(execution_id)
        elif message.ack.execution_id:
            if message.ack.outcome != pb.ACK_OUTCOME_ACCEPTED:
                raise BenchFailed(f"a result was answered by {message}")
            jobs.succeeded_at[jobs.number_of[message.ack.execution_id]] = now
            jobs.unfinished -= 1
            if jobs.unfinished == 0:
                jobs.all_finished.set()


def _figures(order: Arrivals, jobs: _Jobs) -> EndToEnd:
    measured = [number for number, due_at in enumerate(jobs.due_at) if due_at >= jobs.due_at[0] + order.warm_up_s]

    def since_sent(until: list[float]) -> Latencies:
        return latencies([until[number] - jobs.sent_at[number] for number in measured])

    return EndToEnd(
        rate=order.rate,
        succeeded=len(jobs.due_at),
        ack=since_sent(jobs.acked_at),
        start=since_sent(jobs.started_at),
        success=since_sent(jobs.succeeded_at),
        behind_schedule=latencies([jobs.sent_at[number] - jobs.due_at[number] for number in measured]),
    )
