"""Retry policies: their defaults, their bounds, and backoffs that never leave them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.limits import LONGEST_DELAY
from dispatchd.domain.retry import JITTER, RetryPolicy, backoff, retry_policy

SECOND = timedelta(seconds=1)
MICROSECOND = timedelta(microseconds=1)

delays = st.timedeltas(min_value=timedelta(0), max_value=LONGEST_DELAY)
chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    initial, longest = sorted([draw(delays), draw(delays)])
    return RetryPolicy(draw(st.integers(1, 100)), initial, longest)


def test_an_empty_policy_is_three_attempts_5_s_and_60_s() -> None:
    assert retry_policy(0, None, None) == RetryPolicy() == RetryPolicy(3, 5 * SECOND, 60 * SECOND)


@pytest.mark.parametrize(
    ("initial", "longest", "policy"),
    [
        (7 * SECOND, None, (7 * SECOND, 60 * SECOND)),
        (90 * SECOND, None, (90 * SECOND, 90 * SECOND)),
        (None, 2 * SECOND, (2 * SECOND, 2 * SECOND)),
        (None, 600 * SECOND, (5 * SECOND, 600 * SECOND)),
        (timedelta(0), timedelta(0), (timedelta(0), timedelta(0))),
        (timedelta(0), None, (timedelta(0), 60 * SECOND)),
        (LONGEST_DELAY, LONGEST_DELAY, (LONGEST_DELAY, LONGEST_DELAY)),
    ],
)
def test_unset_backoffs_take_their_defaults_and_max_is_never_below_initial(
    initial: timedelta | None, longest: timedelta | None, policy: tuple[timedelta, timedelta]
) -> None:
    filled_in = retry_policy(1, initial, longest)
    assert (filled_in.initial_backoff, filled_in.max_backoff) == policy


@pytest.mark.parametrize(
    ("attempts", "initial", "longest", "field"),
    [
        (-1, None, None, "retry_policy.max_attempts"),
        (101, None, None, "retry_policy.max_attempts"),
        (2**31 - 1, None, None, "retry_policy.max_attempts"),
        (1, -MICROSECOND, None, "retry_policy.initial_backoff"),
        (1, LONGEST_DELAY + MICROSECOND, None, "retry_policy.initial_backoff"),
        (1, None, -MICROSECOND, "retry_policy.max_backoff"),
        (1, None, LONGEST_DELAY + MICROSECOND, "retry_policy.max_backoff"),
        (1, 2 * SECOND, SECOND, "retry_policy.max_backoff"),
    ],
)
def test_a_policy_outside_the_bounds_is_refused_with_the_field(
    attempts: int, initial: timedelta | None, longest: timedelta | None, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        retry_policy(attempts, initial, longest)
    assert refused.value.field == field


def test_backoffs_double_up_to_the_maximum() -> None:
    policy = RetryPolicy(10, 5 * SECOND, 60 * SECOND)
    waits = [backoff(policy, failed, 0.5).total_seconds() for failed in range(1, 7)]
    assert waits == [5, 10, 20, 40, 60, 60]


@given(policies(), st.integers(1, 10_000), chances)
def test_a_backoff_is_spread_by_a_fifth_and_never_longer_than_the_maximum(
    policy: RetryPolicy, failed_attempt: int, chance: float
) -> None:
    middle = min(policy.initial_backoff.total_seconds() * 2.0 ** min(failed_attempt - 1, 64), 366 * 86_400.0)
    middle = min(middle, policy.max_backoff.total_seconds())
    wait = backoff(policy, failed_attempt, chance)
    assert timedelta(0) <= wait <= policy.max_backoff
    slack = 2e-6 + middle * 1e-9
    assert middle * (1 - JITTER) - slack <= wait.total_seconds() <= middle * (1 + JITTER) + slack


@given(policies(), st.integers(1, 99), chances)
def test_without_jitter_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int, chance: float) -> None:
    assert backoff(policy, attempt, chance) <= backoff(policy, attempt + 1, chance)


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    policy = RetryPolicy(10, 10 * SECOND, 60 * SECOND)
    assert backoff(policy, 1, 0.0) == 8 * SECOND
    assert backoff(policy, 1, 0.999_999) > timedelta(seconds=11.99)
