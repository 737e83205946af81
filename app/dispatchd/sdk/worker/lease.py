"""How long the worker may be sure that its executions are still its own, and when to say that it lives.

A heartbeat's ack says how much longer the committed lease lasts, counted from when the ack was written. Counted from
when the heartbeat was *sent*, by this host's monotonic clock, it ends a little early, never late:

    sent ────────► written ◄──────── remaining ────────► the lease ends
    └──────────────── remaining ────────────────► what the worker counts on
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

# Until the first ack names a lease, and for servers that never do.
UNKNOWN_LEASE_INTERVAL_S = 1.0
# Well below the 45 s of silence after which a gateway closes a stream, however long its leases are.
LONGEST_INTERVAL_S = 10.0
SHORTEST_INTERVAL_S = 0.02
UNKNOWN_LEASE_SILENCE_S = 10.0
SHORTEST_SILENCE_S = 1.0


class Lease:
    """Until when the committed lease certainly lasts, on whatever stream it was renewed. None until a server says."""

    def __init__(self) -> None:
        self.valid_until: float | None = None
        self.renewed = asyncio.Event()

    def extend(self, valid_until: float) -> None:
        """Take note of a renewal; leases never get shorter, so the latest end counts."""
        if self.valid_until is None or valid_until > self.valid_until:
            self.valid_until = valid_until
            self.renewed.set()

    async def lost(self) -> None:
        """Wait until the lease has run out, for as long as it takes."""
        while True:
            remaining_s = None if self.valid_until is None else self.valid_until - time.monotonic()
            if remaining_s is not None and remaining_s <= 0:
                return
            self.renewed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await self.renewed.wait()


class Pace:
    """The heartbeats of one stream: when the next is due, what an ack proves, and how long silence may last."""

    def __init__(self, now: float) -> None:
        # Bounded by `silent_at`: a stream that answers nothing is given up after a few heartbeats.
        self._sent: deque[float] = deque()
        self._lease_s: float | None = None
        self._last_sent = now
        self._last_heard = now

    def sent(self, now: float) -> None:
        """A heartbeat, or the registration, is about to be written."""
        self._sent.append(now)
        self._last_sent = now

    def acked(self, now: float, remaining_s: float | None) -> float | None:
        """Return until when the lease certainly lasts. Acks come in order, so this one is for the oldest heartbeat."""
        self._last_heard = now
        sent_at = self._sent.popleft() if self._sent else None
        if sent_at is None or remaining_s is None:
            return None
        self._lease_s = max(self._lease_s or 0.0, remaining_s)
        return sent_at + remaining_s

    @property
    def interval_s(self) -> float:
        """A third of the lease."""
        if self._lease_s is None:
            return UNKNOWN_LEASE_INTERVAL_S
        return min(max(self._lease_s / 3, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)

    @property
    def next_heartbeat_at(self) -> float:
        """When the next heartbeat is due."""
        return self._last_sent + self.interval_s

    @property
    def silent_at(self) -> float:
        """When a stream without acks counts as dead: early enough to resume on another before the lease ends."""
        if self._lease_s is None:
            return self._last_heard + UNKNOWN_LEASE_SILENCE_S
        return self._last_heard + max(self._lease_s * 2 / 3, SHORTEST_SILENCE_S)
