"""Durations as callers write them, a number of seconds or a `timedelta`, and as the contract carries them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from google.protobuf.duration_pb2 import Duration

from dispatchd.sdk.errors import InvalidRequest

Seconds: TypeAlias = float | timedelta


def seconds(value: Seconds, field: str) -> float:
    """Return `value` as seconds; `InvalidRequest` naming `field` if it is negative or not finite."""
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(number) or number < 0:
        raise InvalidRequest(f"{field} must be zero or a positive number of seconds, not {number}", field=field)
    return number


def to_duration(value: Seconds, field: str) -> Duration:
    """Return `value` as a protobuf duration, exact to the microsecond."""
    duration = Duration()
    try:
        duration.FromTimedelta(timedelta(seconds=seconds(value, field)))
    except (OverflowError, ValueError) as exc:
        raise InvalidRequest(f"{field} is too long: {value}", field=field) from exc
    return duration
