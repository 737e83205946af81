"""Job, execution and session ids: UUIDv7 (RFC 9562, section 5.7), strictly increasing within one process."""

import random
import time
from collections.abc import Callable
from typing import NewType
from uuid import UUID

from dispatchd.domain.errors import InvalidRequest

JobId = NewType("JobId", UUID)
ExecutionId = NewType("ExecutionId", UUID)
SessionId = NewType("SessionId", UUID)

_JOB_PREFIX = "job_"
_EXECUTION_PREFIX = "exec_"
_HEX_DIGITS = 32
_COUNTER_BITS = 12
_RANDOM_BITS = 62
_RANDOM = random.Random()  # seeded by the operating system; ids are unique, not secret
_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0x2 << 62


class IdGenerator:
    """Makes ids in the order of the calls.

    48 bits of Unix time in ms, 12 bits of counter within the millisecond, 62 random bits. When the counter runs
    over, or the clock steps back, the time part runs ahead of the clock rather than repeat.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = time.time_ns,
        random_bits: Callable[[int], int] = _RANDOM.getrandbits,
    ) -> None:
        self._now_ns = now_ns
        self._random_bits = random_bits
        self._last = 0

    def job_id(self) -> JobId:
        return JobId(self._next())

    def execution_id(self) -> ExecutionId:
        return ExecutionId(self._next())

    def session_id(self) -> SessionId:
        return SessionId(self._next())

    def _next(self) -> UUID:
        first_of_this_ms = (self._now_ns() // 1_000_000) << _COUNTER_BITS
        self._last = max(self._last + 1, first_of_this_ms)
        time_ms, counter = self._last >> _COUNTER_BITS, self._last & ((1 << _COUNTER_BITS) - 1)
        return UUID(int=time_ms << 80 | _VERSION_7 | counter << 64 | _VARIANT_RFC | self._random_bits(_RANDOM_BITS))


def format_job_id(job_id: JobId) -> str:
    """`job_` and 32 lower-case hexadecimal digits."""
    return _JOB_PREFIX + job_id.hex


def format_execution_id(execution_id: ExecutionId) -> str:
    """`exec_` and 32 lower-case hexadecimal digits."""
    return _EXECUTION_PREFIX + execution_id.hex


def parse_job_id(text: str, *, field: str = "job_id") -> JobId:
    """Reads a job id; InvalidRequest names `field` if it is none."""
    parsed = _parse(text, _JOB_PREFIX)
    if parsed is None:
        raise InvalidRequest(field, "must be a job id: 'job_' and 32 lower-case hexadecimal digits")
    return JobId(parsed)


def parse_execution_id(text: str) -> ExecutionId | None:
    """Reads an execution id; None if it is none, for then it was never assigned to anybody."""
    parsed = _parse(text, _EXECUTION_PREFIX)
    return None if parsed is None else ExecutionId(parsed)


def _parse(text: str, prefix: str) -> UUID | None:
    digits = text.removeprefix(prefix)
    if (
        len(digits) != _HEX_DIGITS
        or len(text) != len(prefix) + _HEX_DIGITS
        or not set(digits) <= set("0123456789abcdef")
    ):
        return None
    return UUID(hex=digits)
