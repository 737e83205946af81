"""How an execution ends and what follows: the one place that decides about retries and dead letters.

::

    ending            execution ends as      next execution                      job
    ───────────────   ────────────────────   ─────────────────────────────────   ─────────
    Succeeded         SUCCEEDED              –                                   SUCCEEDED
    Failed, Lost,     FAILED                 next attempt, after the backoff     –
      TimedOut          or DEAD_LETTERED     – (budget used up, do not retry)    FAILED
    Returned          FAILED (returned)      same attempt, at its old place      –
                        or DEAD_LETTERED     – (deliveries used up)              FAILED
    Canceled          FAILED (canceled)      –                                   CANCELED
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from dispatchd.domain.execution import EndReason, ExecutionState
from dispatchd.domain.job import JobState
from dispatchd.domain.retry import RetryPolicy, backoff


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The worker reports success."""

    result: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker reports a failure. `retry_after` replaces the policy's backoff."""

    error_message: str
    error_type: str = ""
    do_not_retry: bool = False
    retry_after: timedelta | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The worker's session ended with the execution on it."""

    error_message: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The attempt took longer than the job's timeout."""

    error_message: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Given back undone. Counts as a delivery only if the assignment was written to a stream."""

    was_sent: bool
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Canceled:
    """The job is canceled."""


Ending = Succeeded | Failed | LeaseLost | TimedOut | Returned | Canceled


@dataclass(frozen=True, slots=True)
class DeliveryCount:
    """Where an execution stands in its job's budgets; a redrive starts both anew, the numbers go on."""

    attempt: int
    delivery: int
    attempts_before: int = 0
    """The last attempt number of the budget before this one."""
    counted_before: int = 0
    """Deliveries of this budget that counted, before this one."""

    @property
    def attempt_of_budget(self) -> int:
        return self.attempt - self.attempts_before


@dataclass(frozen=True, slots=True)
class NextExecution:
    """What follows. `delay` None: at the old place (same due time), ready at once."""

    count: DeliveryCount
    delay: timedelta | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """Everything that is written when an execution ends."""

    state: ExecutionState
    end_reason: EndReason
    job_state: JobState | None = None
    next_execution: NextExecution | None = None
    error_message: str = ""
    error_type: str = ""
    result: bytes = b""
    metadata: dict[str, str] = field(default_factory=dict)


def settle(count: DeliveryCount, policy: RetryPolicy, ending: Ending, chance: float) -> Settlement:
    """Decides what `ending` means for an execution that has not ended. `chance` in [0, 1) spreads the backoff."""
    match ending:
        case Succeeded():
            return Settlement(
                ExecutionState.SUCCEEDED,
                EndReason.SUCCEEDED,
                JobState.SUCCEEDED,
                result=ending.result,
                metadata=ending.metadata,
            )
        case Canceled():
            return Settlement(ExecutionState.FAILED, EndReason.CANCELED, JobState.CANCELED)
        case Returned():
            return _returned(count, policy, ending)
        case Failed():
            return _unsuccessful(count, policy, EndReason.FAILED, ending, chance)
        case LeaseLost():
            return _unsuccessful(count, policy, EndReason.LEASE_LOST, Failed(ending.error_message), chance)
        case TimedOut():
            return _unsuccessful(count, policy, EndReason.TIMED_OUT, Failed(ending.error_message), chance)
        case _:
            assert_never(ending)


def _unsuccessful(
    count: DeliveryCount, policy: RetryPolicy, reason: EndReason, failure: Failed, chance: float
) -> Settlement:
    counted = count.counted_before + 1
    is_last = failure.do_not_retry or count.attempt_of_budget >= policy.max_attempts or counted >= policy.max_deliveries
    following = None
    if not is_last:
        delay = failure.retry_after
        if delay is None:
            delay = backoff(policy, count.attempt_of_budget, chance)
        following = NextExecution(
            DeliveryCount(count.attempt + 1, count.delivery + 1, count.attempts_before, counted), delay
        )
    return Settlement(
        ExecutionState.DEAD_LETTERED if is_last else ExecutionState.FAILED,
        reason,
        JobState.FAILED if is_last else None,
        following,
        failure.error_message,
        failure.error_type,
        metadata=failure.metadata,
    )


def _returned(count: DeliveryCount, policy: RetryPolicy, ending: Returned) -> Settlement:
    counted = count.counted_before + (1 if ending.was_sent else 0)
    if counted >= policy.max_deliveries:
        return Settlement(
            ExecutionState.DEAD_LETTERED,
            EndReason.RETURNED,
            JobState.FAILED,
            error_message=f"given back after {counted} deliveries, the most this job may have",
        )
    again = DeliveryCount(count.attempt, count.delivery + 1, count.attempts_before, counted)
    return Settlement(
        ExecutionState.FAILED,
        EndReason.RETURNED,
        next_execution=NextExecution(again, None),
        error_message=ending.error_message,
    )
