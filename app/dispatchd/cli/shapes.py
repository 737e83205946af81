"""The JSON that commands print for programs: every key is always there, times are ISO 8601 and durations seconds."""

import base64
from datetime import datetime, timedelta

from dispatchd.sdk.job import Execution, Job, ReadyQueue, RegisteredWorker


def job_shape(job: Job) -> dict[str, object]:
    """A job. `payload` is null and `metadata` empty where the server leaves them out, as in lists of dead letters."""
    return {
        "job_id": job.job_id,
        "job_type": job.job_type,
        "status": job.status.value,
        "priority": job.priority,
        "attempts": job.attempts,
        "last_error": job.last_error,
        "idempotency_key": job.idempotency_key,
        "metadata": dict(job.metadata),
        "retry_policy": {
            "max_attempts": job.retry_policy.max_attempts,
            "initial_backoff_s": job.retry_policy.initial_backoff.total_seconds(),
            "max_backoff_s": job.retry_policy.max_backoff.total_seconds(),
        },
        "timeout_s": _seconds(job.timeout),
        "run_at": _time(job.run_at),
        "created_at": _time(job.created_at),
        "updated_at": _time(job.updated_at),
        "payload": _bytes(job.payload or None),
        "result": _bytes(job.result),
    }


def execution_shape(execution: Execution) -> dict[str, object]:
    """One execution of a job."""
    return {
        "execution_id": execution.execution_id,
        "job_id": execution.job_id,
        "attempt": execution.attempt,
        "status": execution.status.value,
        "end_reason": None if execution.end_reason == "unspecified" else execution.end_reason.value,
        "worker_id": execution.worker_id,
        "error_type": execution.error_type,
        "error_message": execution.error_message,
        "metadata": dict(execution.metadata),
        "claimed_at": _time(execution.claimed_at),
        "started_at": _time(execution.started_at),
        "finished_at": _time(execution.finished_at),
    }


def worker_shape(worker: RegisteredWorker) -> dict[str, object]:
    """A worker in the registry."""
    return {
        "worker_id": worker.worker_id,
        "status": worker.status.value,
        "capabilities": list(worker.capabilities),
        "max_concurrency": worker.max_concurrency,
        "held": worker.held,
        "labels": dict(worker.labels),
        "gateway": worker.gateway,
        "last_seen_at": _time(worker.last_seen_at),
    }


def queue_shape(queue: ReadyQueue) -> dict[str, object]:
    """A ready queue."""
    return {
        "capability": queue.capability,
        "depth": queue.depth,
        "oldest_age_s": _seconds(queue.oldest_age),
        "delayed": queue.delayed,
    }


def _bytes(data: bytes | None) -> dict[str, str] | None:
    """Text where the bytes are UTF-8, and base64 where they are not."""
    if data is None:
        return None
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(data).decode("ascii")}


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
