"""The arithmetic of the report: from what the database and the ledger say to the figures that are shown."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dispatchd.demo.ledger import LedgerCheck
from dispatchd.domain.execution import EndReason
from dispatchd.domain.job import JobState

_SAID_BY_A_WORKER = (EndReason.SUCCEEDED, EndReason.FAILED)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as the database has it in the end; `size_bytes` is the worker's result."""

    job_id: str
    state: JobState
    created_at: datetime
    finished_at: datetime | None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """An execution as the database has it in the end; `is_resumed` if it moved to another stream."""

    job_id: str
    attempt: int
    delivery: int
    end_reason: EndReason | None
    error_type: str
    due_at: datetime
    started_at: datetime | None
    is_resumed: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a number of jobs went from the first submit to the last end, by the clock of the database."""

    jobs: int
    duration: timedelta

    @property
    def jobs_per_s(self) -> float:
        return self.jobs / self.duration.total_seconds() if self.duration else 0.0


@dataclass(frozen=True, slots=True)
class StartLatency:
    """From the moment a job could start to the moment its worker began."""

    jobs: int
    p50: timedelta
    p95: timedelta


@dataclass(frozen=True, slots=True)
class Report:
    """What the demo found, and what it took. `burst` and `start_latency` are None where nothing was measured."""

    states: Mapping[JobState, int]
    size_bytes: int
    verdicts: Mapping[str, int]
    """Dead letters by the error type of their last execution."""
    attempts: int
    deliveries: int
    leases_lost: int
    leases_recovered: int
    """Lost leases whose job a worker has since done, or found at fault."""
    returned: int
    resumed: int
    burst: Pace | None
    start_latency: StartLatency | None
    ledger: LedgerCheck


def make_report(
    jobs: Sequence[JobRow],
    executions: Sequence[ExecutionRow],
    ledger: LedgerCheck,
    *,
    burst: Collection[str],
    steady: Collection[str],
) -> Report:
    """Adds everything up. `burst` and `steady` are the ids of the jobs that the two figures of speed are about."""
    last = _last_executions(executions)
    lost = [execution for execution in executions if execution.end_reason is EndReason.LEASE_LOST]
    failed = [job for job in jobs if job.state is JobState.FAILED]
    return Report(
        states=Counter(job.state for job in jobs),
        size_bytes=sum(job.size_bytes for job in jobs),
        verdicts=Counter(last[job.job_id].error_type for job in failed),
        attempts=len({(execution.job_id, execution.attempt) for execution in executions}),
        deliveries=len(executions),
        leases_lost=len(lost),
        leases_recovered=sum(last[execution.job_id].end_reason in _SAID_BY_A_WORKER for execution in lost),
        returned=sum(execution.end_reason is EndReason.RETURNED for execution in executions),
        resumed=sum(execution.is_resumed for execution in executions),
        burst=_pace([job for job in jobs if job.job_id in burst]),
        start_latency=_start_latency([execution for execution in executions if execution.job_id in steady]),
        ledger=ledger,
    )


def percentile(values: Sequence[timedelta], share: float) -> timedelta:
    """The smallest of the values that at least `share` of them don't exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def _last_executions(executions: Sequence[ExecutionRow]) -> Mapping[str, ExecutionRow]:
    """The newest execution of each job."""
    return {execution.job_id: execution for execution in sorted(executions, key=lambda execution: execution.delivery)}


def _pace(jobs: Sequence[JobRow]) -> Pace | None:
    ends = [job.finished_at for job in jobs if job.finished_at is not None]
    if not ends:
        return None
    return Pace(len(ends), max(ends) - min(job.created_at for job in jobs))


def _start_latency(executions: Sequence[ExecutionRow]) -> StartLatency | None:
    """Of first deliveries only: a retry is not what its job waited for."""
    waits = [
        execution.started_at - execution.due_at
        for execution in executions
        if execution.delivery == 1 and execution.started_at is not None
    ]
    if not waits:
        return None
    return StartLatency(len(waits), percentile(waits, 0.50), percentile(waits, 0.95))
