"""How long and how much each step measures."""

from dataclasses import dataclass
from typing import Final

PAYLOAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of a run; they stand in the evidence."""

    name: str
    pgbench_clients: int
    pgbench_s: int
    lone_calls: int
    lone_k6_s: int
    callers: int
    callers_warm_up_s: int
    callers_s: int
    workers: int
    heartbeats_a_second: float
    heartbeats_warm_up_s: float
    heartbeats_s: float
    open_loop_rate: float
    open_loop_warm_up_s: float
    open_loop_s: float
    open_loop_streams: int
    open_loop_slots: int
    backlog_jobs: int
    backlog_streams: int
    backlog_slots: int
    settle_s: float
    payload_bytes: int = PAYLOAD_BYTES


FULL: Final = Plan(
    name="full",
    pgbench_clients=32,
    pgbench_s=10,
    lone_calls=3_000,
    lone_k6_s=5,
    callers=64,
    callers_warm_up_s=3,
    callers_s=15,
    workers=100,
    heartbeats_a_second=2.0,
    heartbeats_warm_up_s=2.0,
    heartbeats_s=15.0,
    open_loop_rate=200.0,
    open_loop_warm_up_s=2.0,
    open_loop_s=20.0,
    open_loop_streams=4,
    open_loop_slots=25,
    backlog_jobs=20_000,
    backlog_streams=8,
    backlog_slots=64,
    settle_s=3.0,
)
"""What the gates are judged by."""

QUICK: Final = Plan(
    name="quick",
    pgbench_clients=4,
    pgbench_s=1,
    lone_calls=50,
    lone_k6_s=1,
    callers=8,
    callers_warm_up_s=1,
    callers_s=1,
    workers=10,
    heartbeats_a_second=4.0,
    heartbeats_warm_up_s=0.5,
    heartbeats_s=1.0,
    open_loop_rate=50.0,
    open_loop_warm_up_s=0.5,
    open_loop_s=1.5,
    open_loop_streams=2,
    open_loop_slots=8,
    backlog_jobs=600,
    backlog_streams=2,
    backlog_slots=16,
    settle_s=0.5,
)
"""A smoke: every driver at work for a moment. Its figures mean nothing, so no gate is judged."""
