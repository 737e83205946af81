"""The contract's messages as the client's values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dispatchd.sdk.job import (
    Execution,
    ExecutionEndReason,
    ExecutionStatus,
    Job,
    JobStatus,
    ReadyQueue,
    RegisteredWorker,
    RetryPolicy,
    WorkerStatus,
)
from dispatchd.v1 import dispatchd_pb2 as v1

StateT = TypeVar("StateT", bound=StrEnum)


def _states(prefix: str, names: Iterable[tuple[str, int]], states: type[StateT]) -> Mapping[int, StateT]:
    return {number: states(name.removeprefix(prefix).lower()) for name, number in names}


JOB_STATUSES = _states("JOB_STATUS_", v1.JobStatus.items(), JobStatus)
EXECUTION_STATUSES = _states("EXECUTION_STATUS_", v1.ExecutionStatus.items(), ExecutionStatus)
END_REASONS = _states("EXECUTION_END_REASON_", v1.ExecutionEndReason.items(), ExecutionEndReason)
WORKER_STATUSES = _states("WORKER_STATUS_", v1.WorkerStatus.items(), WorkerStatus)


def job_from(
    message: v1.Job, *, with_result: bool = True, payload: bytes = b"", metadata: Mapping[str, str] | None = None
) -> Job:
    """Return a job; `payload` and `metadata` fill in what answers to a submit leave out."""
    status = JOB_STATUSES.get(message.status, JobStatus.UNSPECIFIED)
    return Job(
        job_id=message.job_id,
        job_type=message.job_type,
        payload=message.payload or payload,
        status=status,
        priority=message.priority,
        idempotency_key=message.idempotency_key,
        metadata=dict(message.metadata) or dict(metadata or {}),
        retry_policy=RetryPolicy(
            max_attempts=message.retry_policy.max_attempts,
            initial_backoff=message.retry_policy.initial_backoff.ToTimedelta(),
            max_backoff=message.retry_policy.max_backoff.ToTimedelta(),
        ),
        created_at=_time(message, "created_at", message.created_at),
        updated_at=_time(message, "updated_at", message.updated_at),
        run_at=_time(message, "run_at", message.run_at),
        timeout=_duration(message, "timeout", message.timeout),
        result=message.result if with_result and status is JobStatus.SUCCEEDED else None,
        last_error=message.last_error,
        attempts=message.attempts,
    )


def execution_from(message: v1.Execution) -> Execution:
    """Return an execution."""
    return Execution(
        execution_id=message.execution_id,
        job_id=message.job_id,
        attempt=message.attempt,
        status=EXECUTION_STATUSES.get(message.status, ExecutionStatus.UNSPECIFIED),
        worker_id=message.worker_id,
        error_message=message.error_message,
        error_type=message.error_type,
        end_reason=END_REASONS.get(message.end_reason, ExecutionEndReason.UNSPECIFIED),
        metadata=dict(message.metadata),
        claimed_at=_time(message, "claimed_at", message.claimed_at),
        started_at=_time(message, "started_at", message.started_at),
        finished_at=_time(message, "finished_at", message.finished_at),
    )


def worker_from(message: v1.Worker) -> RegisteredWorker:
    """Return a worker of the registry."""
    return RegisteredWorker(
        worker_id=message.worker_id,
        status=WORKER_STATUSES.get(message.status, WorkerStatus.UNSPECIFIED),
        capabilities=tuple(message.capabilities),
        max_concurrency=message.max_concurrency,
        held=message.held,
        labels=dict(message.labels),
        gateway=message.gateway,
        last_seen_at=_time(message, "last_seen_at", message.last_seen_at),
    )


def queue_from(message: v1.Queue) -> ReadyQueue:
    """Return a ready queue."""
    return ReadyQueue(
        capability=message.capability,
        depth=message.depth,
        oldest_age=_duration(message, "oldest_age", message.oldest_age),
        delayed=message.delayed,
    )


def _time(message: v1.Job | v1.Execution | v1.Worker, field: str, value: Timestamp) -> datetime | None:
    return value.ToDatetime(tzinfo=UTC) if message.HasField(field) else None


def _duration(message: v1.Job | v1.Queue, field: str, value: Duration) -> timedelta | None:
    return value.ToTimedelta() if message.HasField(field) else None
