"""What may be submitted, what it takes by default, and when two requests are the same."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.job import capability_of
from dispatchd.domain.limits import LONGEST_DELAY
from dispatchd.domain.retry import RetryPolicy
from dispatchd.domain.submission import Submission, check_submission, key_digest, request_digest

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLAIN = Submission("email.send", b"{}")
MICROSECOND = timedelta(microseconds=1)

Change = Callable[[Submission], Submission]


def test_a_plain_submission_is_taken_with_the_defaults() -> None:
    check_submission(PLAIN, NOW)
    assert (PLAIN.priority, PLAIN.idempotency_key, PLAIN.metadata) == (0, "", {})
    assert (PLAIN.policy, PLAIN.run_at, PLAIN.timeout) == (RetryPolicy(), None, None)


@pytest.mark.parametrize(
    "submission",
    [
        replace(PLAIN, job_type="x"),
        replace(PLAIN, job_type="a" * 200),
        replace(PLAIN, job_type="Az09._-:/@"),
        replace(PLAIN, job_type="email."),
        replace(PLAIN, payload=b"\0"),
        replace(PLAIN, payload=bytes(2 * 1024 * 1024)),
        replace(PLAIN, priority=2**31 - 1),
        replace(PLAIN, idempotency_key="é" * 256),
        replace(PLAIN, metadata={str(n): "" for n in range(64)}),
        replace(PLAIN, metadata={"k": "v" * (16 * 1024 - 1)}),
        replace(PLAIN, run_at=NOW + LONGEST_DELAY),
        replace(PLAIN, run_at=datetime(1, 1, 1, tzinfo=UTC)),
        replace(PLAIN, timeout=MICROSECOND),
        replace(PLAIN, timeout=LONGEST_DELAY),
    ],
    ids=lambda submission: repr(submission)[:60],
)
def test_everything_at_its_bound_is_taken(submission: Submission) -> None:
    check_submission(submission, NOW)


@pytest.mark.parametrize(
    ("submission", "field"),
    [
        (replace(PLAIN, job_type=""), "job_type"),
        (replace(PLAIN, job_type="a" * 201), "job_type"),
        (replace(PLAIN, job_type=".send"), "job_type"),
        (replace(PLAIN, job_type="email send"), "job_type"),
        (replace(PLAIN, job_type="email.send\n"), "job_type"),
        (replace(PLAIN, job_type="é"), "job_type"),
        (replace(PLAIN, job_type="email{1}"), "job_type"),
        (replace(PLAIN, payload=b""), "payload"),
        (replace(PLAIN, payload=bytes(2 * 1024 * 1024 + 1)), "payload"),
        (replace(PLAIN, priority=-1), "priority"),
        (replace(PLAIN, idempotency_key="é" * 256 + "a"), "idempotency_key"),
        (replace(PLAIN, idempotency_key="a\0b"), "idempotency_key"),
        (replace(PLAIN, metadata={str(n): "" for n in range(65)}), "metadata"),
        (replace(PLAIN, metadata={"k": "é" * 8 * 1024}), "metadata"),
        (replace(PLAIN, metadata={"a\0": "b"}), "metadata"),
        (replace(PLAIN, metadata={"a": "\0"}), "metadata"),
        (replace(PLAIN, run_at=NOW + LONGEST_DELAY + MICROSECOND), "run_at"),
        (replace(PLAIN, timeout=timedelta(0)), "timeout"),
        (replace(PLAIN, timeout=-MICROSECOND), "timeout"),
        (replace(PLAIN, timeout=LONGEST_DELAY + MICROSECOND), "timeout"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_everything_past_its_bound_is_refused_with_its_field(submission: Submission, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{re.escape(field)}: ") as refused:
        check_submission(submission, NOW)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("job_type", "capability"), [("email.send", "email"), ("email", "email"), ("a.b.c", "a"), ("email.", "email")]
)
def test_a_capability_is_what_stands_before_the_first_dot(job_type: str, capability: str) -> None:
    assert capability_of(job_type) == capability == replace(PLAIN, job_type=job_type).capability


CHANGES: dict[str, Change] = {
    "job type": lambda s: replace(s, job_type="email.sent"),
    "payload": lambda s: replace(s, payload=b"{ }"),
    "priority": lambda s: replace(s, priority=1),
    "metadata": lambda s: replace(s, metadata={"a": "1"}),
    "another value": lambda s: replace(s, metadata={"a": "2"}),
    "two entries": lambda s: replace(s, metadata={"a": "1", "b": "2"}),
    "moved text": lambda s: replace(s, metadata={"a": "", "1b": "2"}),
    "max attempts": lambda s: replace(s, policy=RetryPolicy(max_attempts=4)),
    "initial backoff": lambda s: replace(s, policy=RetryPolicy(initial_backoff=timedelta(seconds=6))),
    "max backoff": lambda s: replace(s, policy=RetryPolicy(max_backoff=timedelta(seconds=61))),
    "run at": lambda s: replace(s, run_at=NOW),
    "run at the epoch": lambda s: replace(s, run_at=datetime(1970, 1, 1, tzinfo=UTC)),
    "timeout": lambda s: replace(s, timeout=timedelta(hours=24)),
    "as long as that": lambda s: replace(s, timeout=timedelta(seconds=NOW.timestamp())),
}


@pytest.mark.parametrize(("one", "other"), list(combinations(["nothing", *CHANGES], 2)))
def test_requests_that_differ_in_one_field_are_different(one: str, other: str) -> None:
    changed = [CHANGES[name](PLAIN) if name in CHANGES else PLAIN for name in (one, other)]
    assert request_digest(changed[0]) != request_digest(changed[1])


def test_the_key_and_the_order_of_metadata_do_not_make_a_request_different() -> None:
    one = replace(PLAIN, idempotency_key="k", metadata={"a": "1", "b": "2"})
    other = replace(PLAIN, idempotency_key="l", metadata={"b": "2", "a": "1"})
    assert request_digest(one) == request_digest(other)


def test_equal_moments_in_other_time_zones_are_the_same() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert request_digest(replace(PLAIN, run_at=NOW)) == request_digest(replace(PLAIN, run_at=there))


words = st.text(max_size=4)
submissions = st.builds(
    Submission,
    st.sampled_from(["a", "ab", "b"]),
    st.binary(min_size=1, max_size=3),
    st.integers(0, 3),
    st.just(""),
    st.dictionaries(words, words, max_size=3),
    st.builds(RetryPolicy, st.integers(1, 3)),
    run_at=st.none() | st.just(NOW),
    timeout=st.none() | st.timedeltas(MICROSECOND, 3 * MICROSECOND),
)


@given(submissions, submissions)
def test_digests_are_equal_exactly_when_the_requests_are(one: Submission, other: Submission) -> None:
    assert (request_digest(one) == request_digest(other)) == (one == other)


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_key_digest_stands_for_its_key(one: str, other: str) -> None:
    assert (key_digest(one) == key_digest(other)) == (one == other)
    assert (key_digest(one) is None) == (one == "")
