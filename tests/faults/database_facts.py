"""What the database says when everything is over, with its times put on the clock of the ledgers."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import asyncpg

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId, format_execution_id, format_job_id
from dispatchd.domain.job import JobState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_JOBS = """
select j.job_id, j.capability, j.priority, j.state, j.idempotency_key, j.max_attempts
from jobs j
order by j.job_id
"""
_EXECUTIONS = """
select e.execution_id, e.job_id, e.attempt, e.delivery, e.state, e.end_reason, e.worker_id, e.claimed_at, e.finished_at,
    e.due_at
from executions e
order by e.job_id, e.delivery
"""


@dataclass(frozen=True, slots=True)
class JobFact:
    """A row of `jobs`."""

    job_id: str
    capability: str
    priority: int
    state: JobState
    key: str | None
    max_attempts: int


@dataclass(frozen=True, slots=True)
class ExecutionFact:
    """A row of `executions`. The times are on CLOCK_MONOTONIC; `due_ns` is when it may be claimed first."""

    execution_id: str
    job_id: str
    attempt: int
    delivery: int
    state: ExecutionState
    end_reason: EndReason | None
    worker_id: str | None
    claimed_ns: int | None
    finished_ns: int | None
    due_ns: int = 0


@dataclass(frozen=True)
class DatabaseFacts:
    """Read at `read_ns`, when every process that writes a ledger had ended."""

    read_ns: int
    jobs: Mapping[str, JobFact]
    executions: Mapping[str, ExecutionFact]

    @cached_property
    def executions_of(self) -> Mapping[str, Sequence[ExecutionFact]]:
        """The executions of each job by delivery number; none for a job without."""
        by_job: defaultdict[str, list[ExecutionFact]] = defaultdict(list)
        for execution in sorted(self.executions.values(), key=lambda each: each.delivery):
            by_job[execution.job_id].append(execution)
        return by_job


async def read_facts(database_url: str) -> DatabaseFacts:
    """Reads both tables in one snapshot. The wall clock must not have been set since the suite began."""
    connection = await asyncpg.connect(database_url, timeout=10.0)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            jobs = await connection.fetch(_JOBS)
            executions = await connection.fetch(_EXECUTIONS)
            before_ns = time.monotonic_ns()
            wall_clock = await connection.fetchval("select clock_timestamp()")
            read_ns = time.monotonic_ns()
    finally:
        await connection.close()
    epoch_ns = (before_ns + read_ns) // 2 - _since_epoch_ns(wall_clock)
    return DatabaseFacts(
        read_ns,
        {job.job_id: job for job in map(_job, jobs)},
        {each.execution_id: each for each in (_execution(row, epoch_ns) for row in executions)},
    )


def _job(row: "asyncpg.Record") -> JobFact:
    return JobFact(
        format_job_id(JobId(row["job_id"])),
        row["capability"],
        row["priority"],
        JobState(row["state"]),
        row["idempotency_key"],
        row["max_attempts"],
    )


def _execution(row: "asyncpg.Record", epoch_ns: int) -> ExecutionFact:
    claimed_at, finished_at = row["claimed_at"], row["finished_at"]
    return ExecutionFact(
        format_execution_id(ExecutionId(row["execution_id"])),
        format_job_id(JobId(row["job_id"])),
        row["attempt"],
        row["delivery"],
        ExecutionState(row["state"]),
        None if row["end_reason"] is None else EndReason(row["end_reason"]),
        row["worker_id"],
        None if claimed_at is None else epoch_ns + _since_epoch_ns(claimed_at),
        None if finished_at is None else epoch_ns + _since_epoch_ns(finished_at),
        epoch_ns + _since_epoch_ns(row["due_at"]),
    )


def _since_epoch_ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
