"""What a task may know of the execution it runs in, and the exceptions by which it steers its retries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from dispatchd.sdk.durations import Seconds, seconds

MAX_RETRY_AFTER = timedelta(days=7)


class Retry(Exception):
    """Raise it in a task: this attempt failed, try again, `after` this long instead of the policy's backoff.

    `after` is at most seven days. The attempt counts: once `max_attempts` is reached the job is a dead letter.
    """

    def __init__(self, message: str = "the task asked for another attempt", *, after: Seconds | None = None):
        super().__init__(message)
        self.after = None if after is None else min(timedelta(seconds=seconds(after, "after")), MAX_RETRY_AFTER)


class Fail(Exception):
    """Raise it in a task: this job can't succeed, don't try again. It becomes a dead letter at once."""

    def __init__(self, message: str, *, error_type: str = "Fail"):
        super().__init__(message)
        self.error_type = error_type


class TaskContext:
    """The execution that a task runs in. Declare a parameter with this type to receive it."""

    def __init__(
        self,
        *,
        job_id: str,
        execution_id: str,
        job_type: str,
        attempt: int,
        metadata: Mapping[str, str],
        deadline: datetime | None,
        traceparent: str = "",
        tracestate: str = "",
        write_log: Callable[[str, str], None] | None = None,
    ):
        self.job_id = job_id
        self.execution_id = execution_id
        self.job_type = job_type
        self.attempt = attempt
        self.metadata = metadata
        self.deadline = deadline
        self.traceparent = traceparent
        self.tracestate = tracestate
        self._write_log = write_log
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether the outcome is no longer wanted: canceled, timed out, or the worker must stop now.

        An async task is cancelled as well. A plain function runs on; it may look here and return early.
        """
        return self._cancelled.is_set()

    def log(self, message: str) -> None:
        """Send a line to the worker-gateway's log, with the job and execution id. Never blocks; may be dropped."""
        if self._write_log is not None:
            self._write_log(self.execution_id, message)

    def cancel(self) -> None:
        """Tell the function that its outcome is no longer wanted. The worker calls this; tests may."""
        self._cancelled.set()
