"""Jobs, executions, workers and queues as they are read back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.job import JobStatus
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.worker import WorkerStatus


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as clients see it. Lists leave `payload`, `metadata` and `result` empty."""

    job_id: JobId
    job_type: str
    status: JobStatus
    priority: int
    idempotency_key: str
    policy: RetryPolicy
    run_at: datetime | None
    timeout: timedelta | None
    attempts: int
    last_error: str
    created_at: datetime
    updated_at: datetime
    payload: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)
    result: bytes = b""


@dataclass(frozen=True, slots=True)
class ExecutionView:
    """An execution as clients see it."""

    execution_id: ExecutionId
    job_id: JobId
    attempt: int
    delivery: int
    state: ExecutionState
    worker_id: str
    error_message: str
    error_type: str
    end_reason: EndReason | None
    metadata: Mapping[str, str]
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker in the registry."""

    worker_id: str
    status: WorkerStatus
    capabilities: tuple[str, ...]
    slots: int
    held: int
    labels: Mapping[str, str]
    gateway: str
    last_seen_at: datetime


@dataclass(frozen=True, slots=True)
class QueueView:
    """The executions that wait for one capability."""

    capability: str
    depth: int
    oldest_age: timedelta
    delayed: int
