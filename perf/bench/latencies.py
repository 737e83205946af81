"""Latencies as percentiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latencies:
    """Percentiles in milliseconds over `count` samples."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def latencies(samples_s: Sequence[float]) -> Latencies:
    """From samples in seconds, at least one; a percentile is the smallest sample that so many do not exceed."""
    ordered = sorted(sample * 1000 for sample in samples_s)
    count = len(ordered)

    def percentile(percent: float) -> float:
        return ordered[max(0, math.ceil(count * percent / 100) - 1)]

    return Latencies(
        count, sum(ordered) / count, percentile(50), percentile(90), percentile(95), percentile(99), ordered[-1]
    )
