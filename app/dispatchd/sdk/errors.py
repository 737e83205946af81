"""What a call can raise: one class for each thing a caller can do differently."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatchd.sdk.job import Job


class DispatchdError(Exception):
    """The base of every error of the client and the worker."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(DispatchdError):
    """The request breaks a rule of the contract. Correct `field` and send it again."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class JobNotFound(DispatchdError):
    """No job has this id: it was never submitted here, or its retention is over."""


class IdempotencyConflict(DispatchdError):
    """The idempotency key belongs to a job that was submitted with another request."""


class NotDeadLetter(DispatchdError):
    """The job is no dead letter, so there is nothing to redrive."""


class RegionPassive(DispatchdError):
    """This region takes no changes now. The message names the primary region: submit there."""


class Overloaded(DispatchdError):
    """A bound of the server is reached. Try again after `retry_after`, if the server said so."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(DispatchdError):
    """No server, or a server without its database. The client tried again until its time was up."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(DispatchdError):
    """The time for this call is up. A submit may have been stored: repeat it with the same idempotency key.

    `job` is the last state seen by `wait` or `result`, and None for every other call.
    """

    def __init__(self, message: str, *, job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job


class Unauthenticated(DispatchdError):
    """The server does not know who is calling. Send valid credentials."""


class PermissionDenied(DispatchdError):
    """The caller is known but may not do this."""


class UnusableCertificate(DispatchdError):
    """A file for TLS can't be read, or does not hold what it should. The message names it."""


class NotSupported(DispatchdError):
    """The server is older than this call."""


class ServerError(DispatchdError):
    """The server answered in a way the contract does not foresee. `code` is the gRPC status name."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ClientClosed(DispatchdError):
    """The client is not open: call it inside `with` or `async with`."""


class JobFailed(DispatchdError):
    """The job has failed for good and is a dead letter. `job.last_error` says why."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.job_id} ({job.job_type}) failed: {job.last_error or 'no error message'}")
        self.job = job


class JobCanceled(DispatchdError):
    """The job was canceled, so it has no result."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.job_id} ({job.job_type}) was canceled")
        self.job = job


class ResultMismatch(DispatchdError):
    """The job's result does not fit the type that was asked for. The bytes are in `job.result`."""

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(f"the result of job {job.job_id} ({job.job_type}) does not fit: {reason}")
        self.job = job


class WorkerSuperseded(DispatchdError):
    """Another process opened a stream with the same worker id. Give every worker an id of its own."""

    def __init__(self, worker_id: str, reason: str) -> None:
        super().__init__(
            f"worker id {worker_id!r} was taken over by another stream ({reason}). Two processes must not share a "
            "worker id: give each its own, or leave worker_id out."
        )
        self.worker_id = worker_id


class WorkerReferenceError(DispatchdError):
    """`package.module:attribute` does not name a worker."""
