"""The connection to Redis: short timeouts, and the one place where its errors are translated."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dispatchd.application.ports import HintsUnavailable
from dispatchd.telemetry import metrics

TIMEOUT = timedelta(milliseconds=500)
"""Nothing waits longer for a hint: without it the work goes on, only later."""


def open_redis(
    host: str,
    port: int,
    *,
    password: str | None = None,
    db: int = 0,
    tls: bool = False,
    tls_ca_file: Path | None = None,
    connections: int = 20,
) -> Redis:
    """A client whose calls fail within 500 ms when Redis is away. Close it with `aclose()`."""
    return Redis(
        host=host,
        port=port,
        password=password,
        db=db,
        ssl=tls,
        ssl_ca_certs=None if tls_ca_file is None else str(tls_ca_file),
        ssl_cert_reqs="required",
        ssl_check_hostname=True,
        # The client's own timeout would run each write as a task and, on Python 3.11, now and then swallow the
        # cancellation of its caller: a loop went on for ever, and the process did not stop.
        socket_timeout=None,
        socket_connect_timeout=TIMEOUT.total_seconds(),
        retry=Retry(NoBackoff(), 0),
        max_connections=connections,
        decode_responses=False,
    )


@asynccontextmanager
async def hints() -> AsyncIterator[None]:
    """Around the calls of Redis: bounds them, and turns every failure into HintsUnavailable."""
    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            yield
    except (RedisError, OSError, TimeoutError) as exc:
        metrics.REDIS_UP.set(0)
        raise HintsUnavailable(f"Redis can't be used: {type(exc).__name__}") from exc
    metrics.REDIS_UP.set(1)
