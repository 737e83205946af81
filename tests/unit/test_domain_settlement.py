"""Every ending of an execution against every budget: what it ends as, what follows, what becomes of the job."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain.execution import EXECUTION_TRANSITIONS, EndReason, ExecutionState
from dispatchd.domain.job import JOB_TRANSITIONS, JobState
from dispatchd.domain.retry import EXTRA_DELIVERIES, RetryPolicy, backoff
from dispatchd.domain.settlement import (
    Canceled,
    DeliveryCount,
    Ending,
    Failed,
    LeaseLost,
    NextExecution,
    Returned,
    Settlement,
    Succeeded,
    TimedOut,
    settle,
)

SECOND = timedelta(seconds=1)
THREE = RetryPolicy(3, 5 * SECOND, 60 * SECOND)
FIRST = DeliveryCount(attempt=1, delivery=1)

unsuccessful: st.SearchStrategy[Ending] = st.one_of(
    st.builds(
        Failed,
        st.text(),
        do_not_retry=st.booleans(),
        retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(days=7)),
    ),
    st.builds(LeaseLost, st.text()),
    st.builds(TimedOut, st.text()),
)
endings: st.SearchStrategy[Ending] = st.one_of(
    st.builds(Succeeded, st.binary()), st.just(Canceled()), st.builds(Returned, st.booleans()), unsuccessful
)
budgets = st.integers(1, 100).map(lambda attempts: RetryPolicy(attempts, SECOND, 60 * SECOND))


@st.composite
def counts(draw: st.DrawFn) -> DeliveryCount:
    """Any place in any budget, redriven or not."""
    before = draw(st.integers(0, 300))
    attempt = before + draw(st.integers(1, 100))
    return DeliveryCount(attempt, attempt + draw(st.integers(0, 300)), before, draw(st.integers(0, 125)))


def settled(ending: Ending, count: DeliveryCount = FIRST, policy: RetryPolicy = THREE) -> Settlement:
    return settle(count, policy, ending, 0.5)


def test_success_ends_the_job_with_its_result() -> None:
    assert settled(Succeeded(b"42", {"host": "a"})) == Settlement(
        ExecutionState.SUCCEEDED, EndReason.SUCCEEDED, JobState.SUCCEEDED, result=b"42", metadata={"host": "a"}
    )


def test_cancel_ends_the_job() -> None:
    assert settled(Canceled()) == Settlement(ExecutionState.FAILED, EndReason.CANCELED, JobState.CANCELED)


def test_a_failure_is_followed_by_the_next_attempt_after_the_backoff() -> None:
    assert settled(Failed("no route", "OSError", metadata={"try": "1"})) == Settlement(
        ExecutionState.FAILED,
        EndReason.FAILED,
        None,
        NextExecution(DeliveryCount(2, 2, counted_before=1), 5 * SECOND),
        "no route",
        "OSError",
        metadata={"try": "1"},
    )


def test_a_lost_lease_and_a_timeout_are_failed_attempts_with_their_own_reason() -> None:
    for ending, reason in ((LeaseLost("gone"), EndReason.LEASE_LOST), (TimedOut("late"), EndReason.TIMED_OUT)):
        plain = settled(Failed(ending.error_message))
        assert settled(ending) == replace(plain, end_reason=reason)
        last = DeliveryCount(3, 3, counted_before=2)
        assert settled(ending, last) == replace(settled(Failed(ending.error_message), last), end_reason=reason)


def test_the_last_attempt_makes_a_dead_letter() -> None:
    last = settled(Failed("again"), DeliveryCount(3, 3, counted_before=2))
    assert (last.state, last.job_state, last.next_execution) == (
        ExecutionState.DEAD_LETTERED,
        JobState.FAILED,
        None,
    )


def test_do_not_retry_makes_a_dead_letter_of_the_first_attempt() -> None:
    last = settled(Failed("bad input", do_not_retry=True, retry_after=SECOND))
    assert (last.state, last.job_state, last.next_execution) == (
        ExecutionState.DEAD_LETTERED,
        JobState.FAILED,
        None,
    )


def test_retry_after_replaces_the_backoff_and_counts_as_an_attempt() -> None:
    for wait in (timedelta(0), timedelta(days=7)):
        following = settled(Failed("busy", retry_after=wait)).next_execution
        assert following == NextExecution(DeliveryCount(2, 2, counted_before=1), wait)
    assert settled(Failed("busy", retry_after=SECOND), DeliveryCount(3, 3)).job_state is JobState.FAILED


def test_a_give_back_keeps_its_attempt_number_and_its_place() -> None:
    returned = settled(Returned(was_sent=True), DeliveryCount(2, 4, counted_before=3))
    assert (returned.state, returned.end_reason, returned.job_state) == (
        ExecutionState.FAILED,
        EndReason.RETURNED,
        None,
    )
    assert returned.next_execution == NextExecution(DeliveryCount(2, 5, counted_before=4), None)


def test_a_give_back_counts_only_if_it_was_sent() -> None:
    unsent = settled(Returned(was_sent=False), DeliveryCount(2, 4, counted_before=3)).next_execution
    assert unsent == NextExecution(DeliveryCount(2, 5, counted_before=3), None)


def test_the_deliveries_of_a_job_are_its_attempts_and_twenty() -> None:
    policy = RetryPolicy(3, SECOND, SECOND)
    count, deliveries = FIRST, 0
    while True:
        deliveries += 1
        settlement = settled(Returned(was_sent=True), count, policy)
        if settlement.next_execution is None:
            break
        count = settlement.next_execution.count
    assert deliveries == 3 + EXTRA_DELIVERIES == 23
    assert (settlement.state, settlement.job_state) == (ExecutionState.DEAD_LETTERED, JobState.FAILED)
    assert "23 deliveries" in settlement.error_message


def test_used_up_deliveries_end_the_job_though_attempts_are_left() -> None:
    count = DeliveryCount(1, 23, counted_before=22)
    for ending in (Failed("no"), LeaseLost("gone"), TimedOut("late"), Returned(was_sent=True)):
        assert settled(ending, count).job_state is JobState.FAILED
    assert settled(Returned(was_sent=False), count).next_execution is not None
    assert settled(Succeeded(), count).job_state is JobState.SUCCEEDED


def test_a_redrive_starts_the_budgets_anew_and_the_numbers_go_on() -> None:
    redriven = DeliveryCount(attempt=4, delivery=9, attempts_before=3)
    for failed in range(3):
        settlement = settled(Failed("no"), redriven)
        if settlement.next_execution is None:
            break
        assert settlement.next_execution.delay == backoff(THREE, failed + 1, 0.5)
        redriven = settlement.next_execution.count
    assert (redriven.attempt, redriven.delivery, failed) == (6, 11, 2)
    assert settlement.job_state is JobState.FAILED


@given(counts(), budgets, endings, st.floats(0, 1, exclude_max=True))
def test_a_settlement_is_whole_and_keeps_to_the_tables(
    count: DeliveryCount, policy: RetryPolicy, ending: Ending, chance: float
) -> None:
    settlement = settle(count, policy, ending, chance)
    assert settlement.state.has_ended
    for live in (ExecutionState.CLAIMED, ExecutionState.RUNNING):
        assert (live, settlement.state) in EXECUTION_TRANSITIONS
    if isinstance(ending, Canceled):
        assert all((s, settlement.state) in EXECUTION_TRANSITIONS for s in ExecutionState if not s.has_ended)
    # Either the job ends or something follows, never both and never neither.
    assert (settlement.job_state is None) == (settlement.next_execution is not None)
    if settlement.job_state is not None:
        assert (JobState.ACTIVE, settlement.job_state) in JOB_TRANSITIONS
    assert (settlement.state is ExecutionState.DEAD_LETTERED) == (settlement.job_state is JobState.FAILED)


@given(counts(), budgets, endings, st.floats(0, 1, exclude_max=True))
def test_what_follows_is_the_next_delivery_within_the_same_budget(
    count: DeliveryCount, policy: RetryPolicy, ending: Ending, chance: float
) -> None:
    following = settle(count, policy, ending, chance).next_execution
    if following is None:
        return
    assert following.count.delivery == count.delivery + 1
    assert following.count.attempts_before == count.attempts_before
    assert following.count.counted_before - count.counted_before in (0, 1)
    assert following.count.counted_before < policy.max_deliveries
    assert following.count.attempt_of_budget <= policy.max_attempts or isinstance(ending, Returned)
    assert (following.count.attempt == count.attempt) == isinstance(ending, Returned) == (following.delay is None)


@given(budgets, st.lists(st.sampled_from([Failed(""), LeaseLost(""), TimedOut("")]), min_size=100, max_size=100))
def test_no_job_is_tried_more_often_than_its_policy_says(policy: RetryPolicy, failures: list[Ending]) -> None:
    count, tries = FIRST, 0
    for failure in failures:
        tries += 1
        settlement = settle(count, policy, failure, 0.0)
        if settlement.next_execution is None:
            break
        count = settlement.next_execution.count
    assert tries <= policy.max_attempts
    assert settlement.job_state is JobState.FAILED
