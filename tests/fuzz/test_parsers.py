"""What reads a caller's bytes never fails otherwise than it says, and what it lets through can be stored.

Hypothesis drives the same generators as a run against real processes does, and shrinks what it finds.
"""

import random
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatchd.adapters.grpc.job_codec import submission_of, trace_of
from dispatchd.adapters.grpc.stream_codec import inbound
from dispatchd.adapters.grpc.wire import datetime_of, duration_of, parse, set_duration, set_timestamp
from dispatchd.adapters.tokens import TokenVerifier, shared_secret
from dispatchd.application.gateway.messages import LogChunk, Report, Reports
from dispatchd.application.page_token import read_token, write_token
from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest, Unauthenticated
from dispatchd.domain.ids import format_job_id, parse_job_id
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.domain.submission import check_submission, key_digest, request_digest
from dispatchd.domain.worker import Registration, check_registration
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz.cases import Kind
from fuzz.damage import damaged, noise
from fuzz.messages import Messages
from fuzz.methods import METHODS, Method
from fuzz.values import Values
from tokens_for_tests import SECRET

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHANCES = st.randoms(use_true_random=False)
HOSTILITY = st.sampled_from([0.0, 0.05, 0.3, 0.8])
TEXTS = st.text(max_size=30).map(lambda text: text.replace("\0", ""))
KINDS = st.sampled_from([Kind.WELL_FORMED, Kind.WELL_FORMED, Kind.DAMAGED, Kind.NOISE])
VERIFIER = TokenVerifier([shared_secret(SECRET)], issuer="dispatchd", audience="dispatchd-clients")

often = settings(max_examples=300, deadline=None)


def drawn(kind: Kind, message: type[Message], chance: random.Random, hostility: float) -> bytes:
    """A request in its encoding, or what was one."""
    if kind is Kind.NOISE:
        return noise(chance)
    encoded = Messages(chance, Values(chance, "fuzz", "fuzz-worker-1")).encoded(message, hostility)
    return damaged(chance, encoded) if kind is Kind.DAMAGED else encoded


def assert_text(text: str, most_bytes: int) -> None:
    """It can be stored."""
    assert len(text.encode()) <= most_bytes
    assert "\0" not in text


def assert_labels(labels: Mapping[str, str]) -> None:
    """They can be stored."""
    assert len(labels) <= limits.METADATA_ENTRIES
    for text in (*labels, *labels.values()):
        assert_text(text, limits.METADATA_BYTES)


@often
@given(CHANCES, KINDS, HOSTILITY, st.sampled_from(METHODS))
def test_any_bytes_are_a_message_or_are_refused(
    chance: random.Random, kind: Kind, hostility: float, method: Method
) -> None:
    data = drawn(kind, method.request, chance, hostility)
    try:
        message = parse(method.request, data)
    except InvalidRequest:
        assert kind is not Kind.WELL_FORMED
    else:
        assert parse(method.request, message.SerializeToString()) == message


@often
@given(CHANCES, KINDS, HOSTILITY)
def test_a_submission_is_refused_or_can_be_stored(chance: random.Random, kind: Kind, hostility: float) -> None:
    try:
        submission = submission_of(parse(pb.SubmitJobRequest, drawn(kind, pb.SubmitJobRequest, chance, hostility)))
        check_submission(submission, NOW)
    except InvalidRequest:
        return
    assert_text(submission.job_type, limits.JOB_TYPE_BYTES)
    assert submission.job_type.isascii()
    assert submission.capability
    assert_text(submission.idempotency_key, limits.IDEMPOTENCY_KEY_BYTES)
    assert_labels(submission.metadata)
    assert 1 <= len(submission.payload) <= limits.PAYLOAD_BYTES
    assert 0 <= submission.priority < 2**31
    assert 1 <= submission.policy.max_attempts <= limits.MOST_ATTEMPTS
    assert timedelta(0) <= submission.policy.initial_backoff <= submission.policy.max_backoff <= limits.LONGEST_DELAY
    assert submission.timeout is None or timedelta(0) < submission.timeout <= limits.LONGEST_DELAY
    assert submission.run_at is None or submission.run_at <= NOW + limits.LONGEST_DELAY
    assert len(request_digest(submission)) == 32
    assert (key_digest(submission.idempotency_key) is None) == (not submission.idempotency_key)


@often
@given(CHANCES, KINDS, HOSTILITY)
def test_a_trace_is_refused_or_can_be_stored(chance: random.Random, kind: Kind, hostility: float) -> None:
    try:
        item = parse(pb.SubmitJobsItem, drawn(kind, pb.SubmitJobsItem, chance, hostility))
        trace = trace_of(item.traceparent, item.tracestate)
    except InvalidRequest:
        return
    assert_text(trace.traceparent, limits.TRACE_FIELD_BYTES)
    assert_text(trace.tracestate, limits.TRACE_FIELD_BYTES)


@often
@given(CHANCES, KINDS, HOSTILITY)
def test_what_a_worker_says_is_refused_or_can_be_stored(chance: random.Random, kind: Kind, hostility: float) -> None:
    try:
        said = inbound(drawn(kind, pb.ConnectRequest, chance, hostility))
        if isinstance(said, Registration):
            check_registration(said)
    except InvalidRequest:
        return
    match said:
        case Registration():
            assert_text(said.worker_id, limits.WORKER_ID_BYTES)
            assert_text(said.process_id, limits.PROCESS_ID_BYTES)
            assert_labels(said.labels)
            assert 1 <= said.slots <= limits.SLOTS
            assert 1 <= len(said.capabilities) <= limits.CAPABILITIES
        case Reports():
            assert len(said.reports) <= limits.MESSAGE_ITEMS
            for report in said.reports:
                assert_report(report)
        case LogChunk():
            assert_text(said.message, limits.LOG_CHUNK_BYTES)


def assert_report(report: Report) -> None:
    """It can be stored, whatever the worker said."""
    match report.ending:
        case Succeeded():
            assert len(report.ending.result) <= limits.RESULT_BYTES
            assert_labels(report.ending.metadata)
        case Failed():
            assert_text(report.ending.error_message, limits.ERROR_BYTES)
            assert_text(report.ending.error_type, limits.ERROR_TYPE_BYTES)
            assert_labels(report.ending.metadata)
            after = report.ending.retry_after
            assert after is None or timedelta(0) <= after <= limits.LONGEST_RETRY_AFTER


@often
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
@example(253_402_300_799, 999_999_999)
@example(-62_135_596_800, 0)
@example(-315_576_000_000, -999_999_999)
@example(268_435_456, 106_448_979)
def test_times_are_refused_or_come_back_to_the_microsecond(seconds: int, nanos: int) -> None:
    stamp, span = Timestamp(seconds=seconds, nanos=nanos), Duration(seconds=seconds, nanos=nanos)
    with suppress(InvalidRequest):
        at, again = datetime_of("run_at", stamp), Timestamp()
        set_timestamp(again, at)
        assert (again.seconds, again.nanos // 1000) == (seconds, nanos // 1000)
    with suppress(InvalidRequest):
        lasts, back = duration_of("wait", span), Duration()
        set_duration(back, lasts)
        assert duration_of("wait", back) == lasts
        assert abs(lasts // timedelta(microseconds=1) * 1_000 - (seconds * 10**9 + nanos)) < 1_000


@often
@given(st.text(max_size=20), st.lists(TEXTS, max_size=3), CHANCES)
def test_a_page_token_is_read_as_it_was_written_and_no_other_is(
    scope: str, key: list[str], chance: random.Random
) -> None:
    scope = scope.replace("\0", "")
    token = write_token(scope, *key)
    assert read_token(token, scope, lambda *texts: list(texts)) == key
    changed = damaged(chance, token.encode()).decode(errors="replace")
    for text, of in ((token, f"{scope}x"), (changed, scope), ("".join(key), scope)):
        try:
            found = read_token(text, of, lambda *texts: list(texts))
        except InvalidRequest:
            continue
        assert (found, of) == (key, scope)


@often
@given(st.text(max_size=60))
@example("job_" + "0" * 32)
@example("job_" + "\N{FULLWIDTH DIGIT ONE}" * 32)
def test_a_job_id_is_what_is_written_as_one(text: str) -> None:
    try:
        job_id = parse_job_id(text)
    except InvalidRequest:
        return
    assert format_job_id(job_id) == text


@often
@given(st.one_of(st.none(), st.text(max_size=60), st.text(max_size=60).map("Bearer {}".format)))
@example("Bearer " + "." * 100)
def test_no_header_without_our_signature_is_anybody(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        VERIFIER.identify(header)
