"""A request to store a job: its rules, its defaults, and when two requests are the same."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import ExecutionId, JobId
from dispatchd.domain.job import capability_of
from dispatchd.domain.retry import RetryPolicy

_NAME = re.compile(r"[A-Za-z0-9._\-:/@]+", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """W3C trace context of the submitting call, handed on to the worker."""

    traceparent: str = ""
    tracestate: str = ""


NO_TRACE = TraceContext()


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asks for, defaults filled in; `run_at` and `timeout` as sent (None is unset)."""

    job_type: str
    payload: bytes
    priority: int = 0
    idempotency_key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    run_at: datetime | None = None
    timeout: timedelta | None = None

    @property
    def capability(self) -> str:
        return capability_of(self.job_type)

    @property
    def size_bytes(self) -> int:
        """What it costs to keep this in memory, roughly."""
        return len(self.payload) + sum(len(k) + len(v) for k, v in self.metadata.items()) + 512


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked submission with the ids it will have; made once, before the first try to store it."""

    job_id: JobId
    execution_id: ExecutionId
    submission: Submission
    key_digest: bytes | None
    request_digest: bytes
    trace: TraceContext = NO_TRACE


def check_submission(submission: Submission, now: datetime) -> None:
    """Raises InvalidRequest for the first rule of the contract that is broken."""
    check_name("job_type", submission.job_type)
    if not submission.capability:
        raise InvalidRequest("job_type", "must have a capability before the first '.'")
    if not submission.payload:
        raise InvalidRequest("payload", "must not be empty")
    if len(submission.payload) > limits.PAYLOAD_BYTES:
        raise InvalidRequest(
            "payload",
            f"is {len(submission.payload)} bytes, the most is {limits.PAYLOAD_BYTES}: store it and send a link",
        )
    if submission.priority < 0:
        raise InvalidRequest("priority", "must be 0 or more (higher runs first)")
    check_text("idempotency_key", submission.idempotency_key, limits.IDEMPOTENCY_KEY_BYTES)
    check_labels("metadata", submission.metadata)
    if submission.run_at is not None and submission.run_at > now + limits.LONGEST_DELAY:
        raise InvalidRequest("run_at", f"must be at most {limits.LONGEST_DELAY.days} days ahead")
    if submission.timeout is not None and not timedelta(0) < submission.timeout <= limits.LONGEST_DELAY:
        raise InvalidRequest("timeout", f"must be more than 0 s and at most {limits.LONGEST_DELAY.days} days")


def check_name(name: str, value: str, most_bytes: int = limits.JOB_TYPE_BYTES) -> None:
    """Job types and capabilities: they become Redis keys and metric labels, so their letters are few."""
    if not value:
        raise InvalidRequest(name, "must not be empty")
    if len(value) > most_bytes:
        raise InvalidRequest(name, f"is {len(value)} characters, the most is {most_bytes}")
    if _NAME.fullmatch(value) is None:
        raise InvalidRequest(name, "may have only letters, digits and ._-:/@")


def check_text(name: str, value: str, most_bytes: int) -> None:
    """Free text that is stored: bounded, and without NUL, which Postgres can't store."""
    size = len(value.encode())
    if size > most_bytes:
        raise InvalidRequest(name, f"is {size} bytes, the most is {most_bytes}")
    if "\0" in value:
        raise InvalidRequest(name, "must not contain a NUL character")


def check_labels(name: str, labels: Mapping[str, str]) -> None:
    """A map of strings: at most 64 entries and 16 KiB, no NUL."""
    if len(labels) > limits.METADATA_ENTRIES:
        raise InvalidRequest(name, f"has too many entries, the most is {limits.METADATA_ENTRIES}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in labels.items())
    if size > limits.METADATA_BYTES:
        raise InvalidRequest(name, f"is {size} bytes, the most is {limits.METADATA_BYTES}")
    if any("\0" in key or "\0" in value for key, value in labels.items()):
        raise InvalidRequest(name, "must not contain a NUL character")


def key_digest(idempotency_key: str) -> bytes | None:
    """SHA-256 of an idempotency key, which is what the unique index holds; None without a key."""
    return hashlib.sha256(idempotency_key.encode()).digest() if idempotency_key else None


def request_digest(submission: Submission) -> bytes:
    """SHA-256 over the length-prefixed fields that make two requests the same."""
    parts = [submission.job_type.encode(), submission.payload, str(submission.priority).encode()]
    for key in sorted(submission.metadata):
        parts += [key.encode(), submission.metadata[key].encode()]
    policy = submission.policy
    parts += [
        str(policy.max_attempts).encode(),
        str(policy.initial_backoff // _MICROSECOND).encode(),
        str(policy.max_backoff // _MICROSECOND).encode(),
        b"" if submission.run_at is None else str((submission.run_at - _EPOCH) // _MICROSECOND).encode(),
        b"" if submission.timeout is None else str(submission.timeout // _MICROSECOND).encode(),
    ]
    framed = b"".join(piece for part in parts for piece in (len(part).to_bytes(8, "big"), part))
    return hashlib.sha256(framed).digest()
