"""Everything that a run found."""

from dataclasses import dataclass

from perf.bench.backlog import Drained, Filled
from perf.bench.callers import LoneCalls
from perf.bench.heartbeats import Heartbeats
from perf.bench.k6 import Submits
from perf.bench.machine import Machine, Source
from perf.bench.open_loop import EndToEnd
from perf.bench.plan import Plan
from perf.bench.usage import Memory
from perf.bench.yardstick import Inserts


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """pgbench before and after everything else."""

    before: Inserts
    after: Inserts

    @property
    def jobs_a_second(self) -> float:
        """The mean of both, which ratios are taken against."""
        return (self.before.jobs_a_second + self.after.jobs_a_second) / 2


@dataclass(frozen=True, slots=True)
class RoleMemory:
    """Of one role."""

    idle: Memory
    loaded: Memory
    peak_rss_mib: float


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run, complete by construction."""

    measured_at: str
    source: Source
    machine: Machine
    versions: dict[str, str]
    postgres_settings: dict[str, str]
    plan: Plan
    yardstick: Yardsticks
    heartbeats: Heartbeats
    end_to_end: EndToEnd
    lone_caller: LoneCalls
    lone_k6: Submits
    filled: Filled
    drained: Drained
    callers: Submits
    memory: dict[str, RoleMemory]
    cores: dict[str, dict[str, float]]
    rows_in_database: dict[str, dict[str, int]]
