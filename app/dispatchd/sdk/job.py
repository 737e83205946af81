"""The values that the client returns: jobs, executions, workers and ready queues, frozen and free of protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands. UNSPECIFIED stands for a state that this client is too old to know."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    DISPATCHING = "dispatching"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class ExecutionStatus(StrEnum):
    """Where an execution stands. UNSPECIFIED stands for a state that this client is too old to know."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD_LETTERED = "dead_lettered"


class ExecutionEndReason(StrEnum):
    """Why an execution ended. UNSPECIFIED while it has not, or if this client is too old to know."""

    UNSPECIFIED = "unspecified"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LEASE_LOST = "lease_lost"
    RETURNED = "returned"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"


class WorkerStatus(StrEnum):
    """What a worker last said of itself; OFFLINE without an open stream."""

    UNSPECIFIED = "unspecified"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    OFFLINE = "offline"


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a job is retried, with the server's defaults filled in."""

    max_attempts: int
    initial_backoff: timedelta
    max_backoff: timedelta


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server last showed it.

    `result` is what the successful worker returned, and None unless the job was read with `get`, `wait` or `cancel`.
    `payload` and `metadata` are empty in lists of dead letters and in the answers of `redrive`.
    """

    job_id: str
    job_type: str
    payload: bytes
    status: JobStatus
    priority: int
    idempotency_key: str
    metadata: Mapping[str, str]
    retry_policy: RetryPolicy
    created_at: datetime | None
    updated_at: datetime | None
    run_at: datetime | None
    timeout: timedelta | None
    result: bytes | None
    last_error: str
    attempts: int

    @property
    def ended(self) -> bool:
        """Whether the job has succeeded, failed or been canceled."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Execution:
    """One delivery of one attempt at a job."""

    execution_id: str
    job_id: str
    attempt: int
    status: ExecutionStatus
    worker_id: str
    error_message: str
    error_type: str
    end_reason: ExecutionEndReason
    metadata: Mapping[str, str]
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class RegisteredWorker:
    """A worker in the registry."""

    worker_id: str
    status: WorkerStatus
    capabilities: tuple[str, ...]
    max_concurrency: int
    held: int
    labels: Mapping[str, str]
    gateway: str
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """The executions that wait for one capability: `depth` could start now, `delayed` wait for their time."""

    capability: str
    depth: int
    oldest_age: timedelta | None
    delayed: int
