"""Rows as domain values, and back."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dispatchd.adapters.postgres.database import Record
from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.job import JobState, job_status
from dispatchd.domain.region import RegionFence
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.views import ExecutionView, JobView

MICROSECOND = timedelta(microseconds=1)


def microseconds(duration: timedelta) -> int:
    return duration // MICROSECOND


def optional_microseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // MICROSECOND


def from_microseconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(microseconds=value)


def labels_text(labels: Mapping[str, str]) -> str | None:
    """A map as the text of a jsonb value; an empty one is NULL."""
    return json.dumps(dict(labels), ensure_ascii=False) if labels else None


def labels_of(text: str | None) -> dict[str, str]:
    return json.loads(text) if text else {}


def fence_values(fence: RegionFence) -> dict[str, Any]:
    """The parameters every writing statement compares with the region row."""
    return {"region": fence.region, "epoch": fence.epoch}


def policy_of(row: Record) -> RetryPolicy:
    return RetryPolicy(
        row["max_attempts"],
        timedelta(microseconds=row["initial_backoff_us"]),
        timedelta(microseconds=row["max_backoff_us"]),
    )


def job_view(row: Record, *, with_inputs: bool = False) -> JobView:
    """A row of `job_summaries`; `with_inputs` if payload, metadata and result were selected too."""
    return JobView(
        job_id=JobId(row["job_id"]),
        job_type=row["job_type"],
        status=job_status(JobState(row["state"]), ExecutionState(row["newest_state"])),
        priority=row["priority"],
        idempotency_key=row["idempotency_key"] or "",
        policy=policy_of(row),
        run_at=_run_at(row["run_at"]),
        timeout=from_microseconds(row["timeout_us"]),
        attempts=row["attempts"],
        last_error=row["last_error"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        payload=row["payload"] if with_inputs else b"",
        metadata=labels_of(row["metadata"]) if with_inputs else {},
        result=(row["result"] or b"") if with_inputs else b"",
    )


def _run_at(value: datetime | None) -> datetime | None:
    # The driver writes the first moment of the year 1 as -infinity, and reads that without a time zone.
    return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


def execution_view(row: Record) -> ExecutionView:
    """A row of the query `executions_page`."""
    return ExecutionView(
        execution_id=ExecutionId(row["execution_id"]),
        job_id=JobId(row["job_id"]),
        attempt=row["attempt"],
        delivery=row["delivery"],
        state=ExecutionState(row["state"]),
        worker_id=row["worker_id"] or "",
        error_message=row["error_message"] or "",
        error_type=row["error_type"] or "",
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        metadata=labels_of(row["metadata"]),
        claimed_at=row["claimed_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
