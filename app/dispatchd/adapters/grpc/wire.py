"""Messages as bytes and back: one way in (`parse`), and the well-known types."""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from dispatchd.domain.errors import InvalidRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 1_000_000_000
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
_LONGEST_DURATION_S = 315_576_000_000  # the bound of google.protobuf.Duration, 10,000 years

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Reads a message; InvalidRequest for bytes that are none, invalid UTF-8 in a string included."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as exc:
        raise InvalidRequest(
            "", f"the message is no {message.DESCRIPTOR.full_name}: it is damaged, or a string is not valid UTF-8"
        ) from exc
    return message


def datetime_of(field: str, value: Timestamp) -> datetime:
    """An aware datetime, cut to microseconds; InvalidRequest outside the years 1 to 9999."""
    if not (0 <= value.nanos < _NANOS and -62_135_596_800 <= value.seconds <= _LAST_SECOND):
        raise InvalidRequest(field, "is no valid google.protobuf.Timestamp (years 1 to 9999, nanos 0 to 999999999)")
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def duration_of(field: str, value: Duration) -> timedelta:
    """A timedelta, cut to microseconds; InvalidRequest where seconds and nanos don't fit together."""
    mixed = value.seconds * value.nanos < 0
    if mixed or abs(value.nanos) >= _NANOS or abs(value.seconds) > _LONGEST_DURATION_S:
        raise InvalidRequest(field, "is no valid google.protobuf.Duration")
    try:
        return timedelta(seconds=value.seconds, microseconds=int(value.nanos / 1000))
    except OverflowError as exc:
        raise InvalidRequest(field, "is too long") from exc


def set_timestamp(target: Timestamp, value: datetime | None) -> None:
    """Writes a datetime into a field; None leaves it unset."""
    if value is not None:
        since = value - _EPOCH
        target.seconds = since.days * 86_400 + since.seconds
        target.nanos = since.microseconds * 1000
        if target.seconds == 0 and target.nanos == 0:
            target.SetInParent()


def set_duration(target: Duration, value: timedelta | None) -> None:
    """Writes a timedelta into a field; None leaves it unset."""
    if value is not None:
        # The library's own conversion costs several times as much, and this stands on hot paths.
        seconds, micros = value.days * 86_400 + value.seconds, value.microseconds
        if seconds < 0 and micros:
            seconds, micros = seconds + 1, micros - 1_000_000
        target.seconds = seconds
        target.nanos = micros * 1000
        if not seconds and not micros:
            target.SetInParent()
