"""What can go wrong, one class for each thing that a caller can do differently."""

from datetime import timedelta


class DispatchdError(Exception):
    """Base of every error that is answered to a client or worker; the text says what to change."""


class InvalidRequest(DispatchdError):
    """A field breaks a rule of the contract."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field
        self.problem = problem


class JobNotFound(DispatchdError):
    """No job has this id: it never existed, or its retention is over."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"there is no job {job_id}: check the id; finished jobs are deleted when their retention is over"
        )
        self.job_id = job_id


class IdempotencyConflict(DispatchdError):
    """The idempotency key belongs to a job with another request."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"idempotency_key: already used by {job_id} with a different request; "
            "send the same request again, or choose another key"
        )
        self.job_id = job_id


class NotDeadLettered(DispatchdError):
    """A redrive of a job that is no dead letter."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"{job_id} is {state}: only failed jobs can be redriven")
        self.job_id = job_id


class RegionReadOnly(DispatchdError):
    """This region, or this process, does not take changes now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Overloaded(DispatchdError):
    """A bound is reached; the same call may be taken after `retry_after`."""

    def __init__(self, what: str, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(f"{what}; try again in {retry_after.total_seconds():g} s")
        self.retry_after = retry_after


class Unavailable(DispatchdError):
    """The server cannot do it now, through no fault of the caller; the same call may be sent again."""


class Unauthenticated(DispatchdError):
    """The token is missing, damaged, expired, or not for this installation."""


class TokenExpired(Unauthenticated):
    """A stream outlived its token. The same worker may connect again at once, with a new one."""

    def __init__(self) -> None:
        super().__init__("the token of this stream has expired: connect again with a new one")


class PermissionDenied(DispatchdError):
    """The caller is known and may not do this."""


class RegisterFirst(DispatchdError):
    """A stream began with something other than a registration, from a worker that is not in the registry."""

    def __init__(self, why: str) -> None:
        super().__init__(f"register first: {why}")


class Superseded(DispatchdError):
    """Another stream of the same worker id took over."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(
            f"superseded: another stream registered as worker {worker_id!r}; give every worker process an id of its own"
        )
        self.worker_id = worker_id
