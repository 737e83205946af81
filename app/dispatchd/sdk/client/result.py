"""What a job that has ended means to whoever waits for its result: a value, or an error."""

from __future__ import annotations

from typing import Any

from dispatchd.sdk.errors import JobCanceled, JobFailed, ResultMismatch
from dispatchd.sdk.job import Job, JobStatus
from dispatchd.sdk.payload import Codec, DecodeError
from dispatchd.sdk.task import Task


def result_of(job: Job, returns: Any) -> Any:
    """Return the result of an ended job as `returns` asks: a task, a type, or None for whatever the JSON holds.

    `JobFailed` and `JobCanceled` if there is none, `ResultMismatch` if it does not fit.
    """
    if job.status is JobStatus.FAILED:
        raise JobFailed(job)
    if job.status is JobStatus.CANCELED:
        raise JobCanceled(job)
    asked_type = Any if returns is None else returns
    codec: Codec[Any] = returns.result if isinstance(returns, Task) else Codec(asked_type, empty_none=True)
    try:
        return codec.decode(job.result or b"")
    except DecodeError as exc:
        raise ResultMismatch(job, str(exc)) from exc
