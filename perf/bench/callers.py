"""One caller that submits one job after the other: how long an acknowledgement takes when nothing else happens."""

import time
from dataclasses import dataclass

from dispatchd.v1 import dispatchd_pb2 as pb
from perf.bench.latencies import Latencies, latencies
from perf.bench.streams import SUBMIT_JOB, UnaryBytes, open_channel

_WARM_UP_PART = 10


@dataclass(frozen=True, slots=True)
class LoneCaller:
    """What to do: `calls` are measured, a tenth as many go before them."""

    address: str
    job_type: str
    calls: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class LoneCalls:
    """What was done."""

    acknowledged: int
    ack: Latencies


async def submit_one_by_one(order: LoneCaller) -> LoneCalls:
    """Times each call from before it is sent until its answer is read."""
    warm_up = order.calls // _WARM_UP_PART
    requests = [
        pb.SubmitJobRequest(
            job_type=order.job_type,
            payload=b"x" * order.payload_bytes,
            idempotency_key=f"{order.job_type}-lone-{number}",
        ).SerializeToString()
        for number in range(warm_up + order.calls)
    ]
    samples: list[float] = []
    async with open_channel(order.address) as channel:
        submit_job: UnaryBytes = channel.unary_unary(SUBMIT_JOB)
        for request in requests:
            began = time.perf_counter()
            answer = await submit_job(request, timeout=10.0)
            samples.append(time.perf_counter() - began)
            pb.SubmitJobResponse.FromString(answer)
    return LoneCalls(len(samples), latencies(samples[warm_up:]))
