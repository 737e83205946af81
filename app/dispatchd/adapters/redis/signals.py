"""Wake-ups between processes over pub/sub. Each can be lost; everybody also looks by himself.

<prefix>:wake         names of capabilities that have something new, one a line     → worker-gateways
<prefix>:finished     ids of jobs that have ended, 16 bytes each                    → control-planes that wait
<prefix>:waiting      nothing; somebody waits for ends of jobs                     → worker-gateways
<prefix>:due          milliseconds until something becomes due                     → schedulers
<prefix>:canceled     execution id, session id (16 bytes each), reason              → worker-gateways
<prefix>:superseded   ids of displaced sessions, 16 bytes each                      → worker-gateways
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dispatchd.adapters.redis.connection import TIMEOUT, hints
from dispatchd.adapters.redis.ready_queue import wake_channel
from dispatchd.application.loops import forever
from dispatchd.domain.ids import ExecutionId, JobId, SessionId

_ID_BYTES = 16
_RECONNECT_S = 0.5
_LISTEN_S = 5.0
_log = logging.getLogger(__name__)

OnMessage = Callable[[bytes], None]


class RedisSignals:
    """Fulfils `Signals`, and names the channels a role listens to."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self.wake = wake_channel(prefix)
        self.finished = f"{prefix}:finished"
        self.waiting = f"{prefix}:waiting"
        self.due = f"{prefix}:due"
        self.cancel = f"{prefix}:canceled"
        self.supersede = f"{prefix}:superseded"

    async def job_finished(self, job_ids: Sequence[JobId]) -> None:
        await self._publish(self.finished, b"".join(job_id.bytes for job_id in job_ids))

    async def somebody_waits(self) -> None:
        await self._publish(self.waiting, b"")

    async def due_earlier(self, delay: timedelta) -> None:
        await self._publish(self.due, str(max(0, round(delay.total_seconds() * 1000))).encode())

    async def canceled(self, execution_id: ExecutionId, session_id: SessionId, reason: str) -> None:
        await self._publish(self.cancel, execution_id.bytes + session_id.bytes + reason.encode())

    async def superseded(self, session_ids: Sequence[SessionId]) -> None:
        await self._publish(self.supersede, b"".join(session_id.bytes for session_id in session_ids))

    async def _publish(self, channel: str, message: bytes) -> None:
        async with hints():
            await self._redis.publish(channel, message)


def read_ids(message: bytes) -> list[UUID]:
    """Ids of 16 bytes each; a tail that is none is dropped."""
    return [UUID(bytes=message[at : at + _ID_BYTES]) for at in range(0, len(message) - _ID_BYTES + 1, _ID_BYTES)]


def read_cancel(message: bytes) -> tuple[ExecutionId, SessionId, str] | None:
    """Execution, session and reason; None if the message is none of ours."""
    ids = read_ids(message[: 2 * _ID_BYTES])
    if len(ids) != 2:
        return None
    return ExecutionId(ids[0]), SessionId(ids[1]), message[2 * _ID_BYTES :].decode(errors="replace")


async def listen(redis: Redis, handlers: Mapping[str, OnMessage], on_subscribed: Callable[[], None]) -> None:
    """Calls the handler of each message until cancelled; `on_subscribed` after every (re)subscription, for what
    was said in between is lost. Handlers don't wait."""
    told = ""

    def subscribed() -> None:
        nonlocal told
        told = ""
        on_subscribed()

    async def listen_once() -> None:
        nonlocal told
        try:
            await _listen_once(redis, handlers, subscribed)
        except (RedisError, OSError, TimeoutError) as exc:
            # Once for each reason: it is tried twice a second, for as long as Redis is away.
            why = f"{type(exc).__name__}: {exc}"
            if why != told:
                _log.warning("Redis can't be listened to, trying again", extra={"error": why})
            told = why
        await asyncio.sleep(_RECONNECT_S * (0.5 + random.random()))

    await forever("signals", listen_once)


async def _listen_once(redis: Redis, handlers: Mapping[str, OnMessage], on_subscribed: Callable[[], None]) -> None:
    # Confirmations and the answers to pings are messages too: the library would show those it ignores as silence.
    async with redis.pubsub() as subscription:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            await subscription.subscribe(*handlers)
        on_subscribed()
        was_silent = False
        while True:
            message = await subscription.get_message(timeout=_LISTEN_S)
            if message is None:
                # Silence is normal; a ping tells it from a connection that is dead.
                if was_silent:
                    raise TimeoutError("no answer to a ping")
                was_silent = True
                async with asyncio.timeout(TIMEOUT.total_seconds()):
                    await subscription.ping()
                continue
            was_silent = False
            if message["type"] == "message":
                handlers[message["channel"].decode()](message["data"])
