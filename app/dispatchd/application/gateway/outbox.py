"""What waits to be written to one worker's stream.

::

    assignments, signals ───────────────────────────────▶ lane "at once" ──┐
    acks, batched stream: as soon as they are known ─────▶ lane "at once" ──┼──▶ take() ──▶ writer
    acks, ordered stream: [ack][ … ][ack] in request order ─ head known? ──┘

On an ordered stream a heartbeat's ack stands behind the ack of an earlier result whose commit is under way. The
number of unanswered requests is bounded: above the bound the stream is not read until some are answered.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from dispatchd.application.gateway.messages import Ack, Assignment, Outbound
from dispatchd.application.ports import ClaimedExecution

UNANSWERED = 2_000


@dataclass(slots=True)
class PendingAck:
    """A place in the order of the acks; `ack` is None until it is known."""

    ack: Ack | None = None


class Outbox:
    """Filled by the session, emptied by the stream's writer."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._at_once: deque[Outbound] = deque()
        self._acks: deque[PendingAck] = deque()
        self._unanswered = 0
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def send(self, message: Outbound) -> None:
        """Queues a message that stands in no order."""
        self._at_once.append(message)
        self._idle.clear()
        self._something.set()

    def expect_ack(self) -> PendingAck:
        """Takes a place in the order of the acks."""
        pending = PendingAck()
        self._unanswered += 1
        if self._unanswered >= UNANSWERED:
            self._room.clear()
        if self._ordered:
            self._acks.append(pending)
        return pending

    def answer(self, pending: PendingAck, ack: Ack) -> None:
        """Fills a place; on an ordered stream it is written when all before it are."""
        if pending.ack is not None:
            return
        pending.ack = ack
        self._unanswered -= 1
        self._room.set()
        if self._ordered:
            while self._acks and (known := self._acks[0].ack) is not None:
                self._acks.popleft()
                self.send(known)
        else:
            self.send(ack)

    @property
    def has_unanswered(self) -> bool:
        """Whether acks are still to come."""
        return self._unanswered > 0

    async def idle(self) -> None:
        """Waits until the writer has written everything and asks for more."""
        await self._idle.wait()

    async def has_room(self) -> None:
        """Waits until the worker may send more."""
        await self._room.wait()

    async def take(self) -> list[Outbound]:
        """Waits for something to write and takes all there is."""
        if not self._at_once:
            self._something.clear()
            self._idle.set()
            await self._something.wait()
        self._something.clear()
        taken = list(self._at_once)
        self._at_once.clear()
        return taken

    def withdraw_assignments(self) -> list[ClaimedExecution]:
        """Takes back the assignments that the writer has not taken yet."""
        withdrawn = [message.execution for message in self._at_once if isinstance(message, Assignment)]
        self._at_once = deque(message for message in self._at_once if not isinstance(message, Assignment))
        return withdrawn
