"""One job as a caller describes it, and as it goes into SubmitJobs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from dispatchd.sdk.durations import Seconds, to_duration
from dispatchd.sdk.errors import InvalidRequest
from dispatchd.sdk.payload import Codec, EncodeError
from dispatchd.sdk.task import Task
from dispatchd.v1 import dispatchd_pb2 as v1

MAX_PAYLOAD_BYTES = 2 * 1024 * 1024

_UNTYPED: Codec[Any] = Codec(Any)


class SubmitOptions(TypedDict, total=False):
    """What `submit` takes beside the job type and the payload. Everything left out takes its default."""

    priority: int
    """0 or more; higher runs first."""
    idempotency_key: str | None
    """Equal keys make one job. Without one the client makes one, so that its own retries never double a job."""
    metadata: Mapping[str, str]
    """Labels of your own, passed to the worker; at most 64 entries and 16 KiB."""
    max_attempts: int | None
    """Attempts in all, 1 to 100; the task's own, or else 3."""
    initial_backoff: Seconds | None
    """Wait before the second attempt, doubled for each further one; 5 s."""
    max_backoff: Seconds | None
    """Upper bound of the backoff; 60 s."""
    run_at: datetime | None
    """Not to be started before; needs a time zone."""
    timeout: Seconds | None
    """Bound on one attempt; the task's own, or else the server's MAX_EXECUTION_TIME."""
    traceparent: str
    """W3C trace context of the caller, handed to the worker."""
    tracestate: str
    """W3C trace state that goes with it."""
    request_id: str
    """The caller's name for this item in the server's logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job for `submit_many`; the fields are those of `SubmitOptions`."""

    job_type: str | Task[Any, Any]
    payload: Any
    priority: int = 0
    idempotency_key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int | None = None
    initial_backoff: Seconds | None = None
    max_backoff: Seconds | None = None
    run_at: datetime | None = None
    timeout: Seconds | None = None
    traceparent: str = ""
    tracestate: str = ""
    request_id: str = ""


def to_item(submission: Submission) -> v1.SubmitJobsItem:
    """Return the item for SubmitJobs, with an idempotency key made if there is none.

    `InvalidRequest` if a field can't be sent at all; what the server decides is left to the server.
    """
    task = submission.job_type if isinstance(submission.job_type, Task) else None
    item = v1.SubmitJobsItem()
    request = item.request
    try:
        request.job_type = (
            submission.job_type.job_type if isinstance(submission.job_type, Task) else submission.job_type
        )
        request.payload = _payload(task, submission.payload)
        request.priority = submission.priority
        request.idempotency_key = submission.idempotency_key or f"sdk-{secrets.token_hex(16)}"
        request.metadata.update(submission.metadata)
        item.traceparent = submission.traceparent
        item.tracestate = submission.tracestate
        item.request_id = submission.request_id
        _write_retry_policy(request, submission, task)
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(f"the job cannot be sent: {exc}") from exc
    timeout = submission.timeout if submission.timeout is not None or task is None else task.timeout
    if timeout is not None:
        request.timeout.CopyFrom(to_duration(timeout, "timeout"))
    if submission.run_at is not None:
        if submission.run_at.tzinfo is None:
            raise InvalidRequest("run_at needs a time zone, for example datetime.now(UTC)", field="run_at")
        request.run_at.FromDatetime(submission.run_at)
    return item


def _payload(task: Task[Any, Any] | None, value: Any) -> bytes:
    codec = _UNTYPED if task is None else task.payload
    try:
        payload = codec.encode(value)
    except EncodeError as exc:
        raise InvalidRequest(f"the payload cannot be sent: {exc}", field="payload") from exc
    if len(payload) > MAX_PAYLOAD_BYTES:
        # Far larger ones would only be refused by the transport, for the whole call and without naming the field.
        raise InvalidRequest(
            f"the payload has {len(payload):,} bytes; at most {MAX_PAYLOAD_BYTES:,} are allowed. "
            "Store it elsewhere and send a reference.",
            field="payload",
        )
    return payload


def _write_retry_policy(request: v1.SubmitJobRequest, submission: Submission, task: Task[Any, Any] | None) -> None:
    max_attempts = submission.max_attempts if submission.max_attempts is not None or task is None else task.max_attempts
    if max_attempts is not None:
        request.retry_policy.max_attempts = max_attempts
    if submission.initial_backoff is not None:
        request.retry_policy.initial_backoff.CopyFrom(to_duration(submission.initial_backoff, "initial_backoff"))
    if submission.max_backoff is not None:
        request.retry_policy.max_backoff.CopyFrom(to_duration(submission.max_backoff, "max_backoff"))
