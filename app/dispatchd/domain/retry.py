"""How often and how fast a job is retried: exponential backoff with jitter."""

from dataclasses import dataclass
from datetime import timedelta

from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.limits import LONGEST_DELAY, MOST_ATTEMPTS

DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_INITIAL_BACKOFF = timedelta(seconds=5)
DEFAULT_MAX_BACKOFF = timedelta(seconds=60)
EXTRA_DELIVERIES = 20
"""Counted deliveries a job may have beyond its attempts before it becomes a dead letter."""

JITTER = 0.2
"""A backoff is spread over ±20 % so that jobs that failed together do not come back together."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A policy in force: every field has its value."""

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    initial_backoff: timedelta = DEFAULT_INITIAL_BACKOFF
    max_backoff: timedelta = DEFAULT_MAX_BACKOFF

    @property
    def max_deliveries(self) -> int:
        return self.max_attempts + EXTRA_DELIVERIES


def retry_policy(max_attempts: int, initial_backoff: timedelta | None, max_backoff: timedelta | None) -> RetryPolicy:
    """Fills in the defaults of a policy as sent (0 or None is unset) and checks its bounds.

    An unset `max_backoff` is 60 s, or `initial_backoff` where that is longer.
    """
    if not 0 <= max_attempts <= MOST_ATTEMPTS:
        raise InvalidRequest("retry_policy.max_attempts", f"must be 1 to {MOST_ATTEMPTS}, or 0 for the default")
    for field, value in (("initial_backoff", initial_backoff), ("max_backoff", max_backoff)):
        if value is not None and not timedelta(0) <= value <= LONGEST_DELAY:
            raise InvalidRequest(f"retry_policy.{field}", f"must be 0 s to {LONGEST_DELAY.days} days")
    initial = DEFAULT_INITIAL_BACKOFF if initial_backoff is None else initial_backoff
    longest = max(DEFAULT_MAX_BACKOFF, initial) if max_backoff is None else max_backoff
    if initial_backoff is None:
        initial = min(initial, longest)
    if longest < initial:
        raise InvalidRequest("retry_policy.max_backoff", "must be at least retry_policy.initial_backoff")
    return RetryPolicy(max_attempts or DEFAULT_MAX_ATTEMPTS, initial, longest)


def backoff(policy: RetryPolicy, failed_attempt: int, chance: float) -> timedelta:
    """The wait after `failed_attempt` (1 = the first of the budget): initial × 2^(n−1), at most max, ± jitter.

    `chance` is uniform in [0, 1). The result never exceeds `policy.max_backoff`.
    """
    doublings = min(failed_attempt - 1, 64)
    plain_s = min(policy.initial_backoff.total_seconds() * 2.0**doublings, policy.max_backoff.total_seconds())
    spread_s = plain_s * (1 + JITTER * (2 * chance - 1))
    return min(timedelta(seconds=spread_s), policy.max_backoff)
