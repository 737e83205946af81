"""Many idle workers that send heartbeats: how long an ack takes."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from perf.bench.failure import BenchFailed
from perf.bench.latencies import Latencies, latencies
from perf.bench.streams import WorkerStream


@dataclass(frozen=True, slots=True)
class Fleet:
    """What to do: every worker has a connection of its own; their heartbeats are spread evenly over time."""

    address: str
    capability: str
    workers: int
    heartbeats_a_second: float
    warm_up_s: float
    measured_s: float


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """What was done: all that were acked, and the latencies of those sent in the measured time."""

    workers: int
    acked: int
    ack: Latencies


@dataclass(slots=True)
class _Beating:
    stream: WorkerStream
    sent: deque[float] = field(default_factory=deque)
    samples: list[tuple[float, float]] = field(default_factory=list)


async def send_heartbeats(order: Fleet) -> Heartbeats:
    """Sends on a fixed schedule, whether or not acks are late, and times each from before its write to its ack."""
    fleet = [
        _Beating(WorkerStream(order.address, f"bench-heart-{number}", order.capability, 1))
        for number in range(order.workers)
    ]
    for worker in fleet:
        await worker.stream.register()
    interval_s = 1 / order.heartbeats_a_second
    each = round((order.warm_up_s + order.measured_s) * order.heartbeats_a_second)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, worker in enumerate(fleet):
            first_at = began + interval_s * number / order.workers
            tasks.create_task(_send(worker, first_at, interval_s, each), name=f"send {number}")
            tasks.create_task(_take_acks(worker, each), name=f"take acks {number}")
    for worker in fleet:
        await worker.stream.close()
    samples = [sample for worker in fleet for sample in worker.samples]
    measured = [took_s for sent_at, took_s in samples if sent_at >= began + order.warm_up_s]
    return Heartbeats(order.workers, len(samples), latencies(measured))


async def _send(worker: _Beating, first_at: float, interval_s: float, count: int) -> None:
    for number in range(count):
        await asyncio.sleep(first_at + number * interval_s - time.perf_counter())
        worker.sent.append(time.perf_counter())
        await worker.stream.heartbeat()


async def _take_acks(worker: _Beating, count: int) -> None:
    for _ in range(count):
        message = await worker.stream.read()
        now = time.perf_counter()
        if message.WhichOneof("payload") != "ack" or message.ack.execution_id:
            raise BenchFailed(f"a heartbeat was answered by {message}")
        sent_at = worker.sent.popleft()
        worker.samples.append((sent_at, now - sent_at))
