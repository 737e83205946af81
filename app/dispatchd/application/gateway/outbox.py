"""What waits to be written to one worker's stream.

::

    assignments with their payload, signals ─────────────▶ lane "at once" ──┐
    acks, batched stream: as soon as they are known ─────▶ lane "at once" ──┼──▶ take() ──▶ writer
    acks, ordered stream: [ack][ … ][ack] in request order ─ head known? ──┘
                                                                ▲
    assignments without payload ─▶ lane "large" ─▶ loader reads the first one ─▶ deliver_large()

On an ordered stream a heartbeat's ack stands behind the ack of an earlier result whose commit is under way. Nothing
stands behind a payload that is still to be read. All of it is bounded: while too much is unanswered or unwritten the
stream is not read, and payloads beyond a megabyte stay in the database until their turn comes.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dispatchd.application.gateway.messages import Ack, Assignment, Outbound
from dispatchd.domain.ids import ExecutionId

UNANSWERED = 2_000
UNWRITTEN = 2_000
PAYLOAD_BYTES = 1024 * 1024


@dataclass(slots=True)
class PendingAck:
    """A place in the order of the acks; `ack` is None until it is known."""

    ack: Ack | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAssignment:
    """An assignment whose payload the loader has read; `left` is set when it was written or withdrawn."""

    assignment: Assignment
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Outbox:
    """Filled by the session, emptied by the stream's writer and by its loader of large payloads."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._at_once: deque[Outbound | LoadedAssignment] = deque()
        self._payload_bytes = 0
        self._large: deque[Assignment] = deque()
        self._acks: deque[PendingAck] = deque()
        self._unanswered = 0
        self._something = asyncio.Event()
        self._something_large = asyncio.Event()
        self._idle = asyncio.Event()
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._room = asyncio.Event()
        self._room.set()

    def send(self, message: Outbound) -> None:
        """Queues a message that stands in no order."""
        if isinstance(message, Assignment):
            payload = message.execution.payload
            if payload is None or self._payload_bytes + len(payload) > PAYLOAD_BYTES:
                self._large.append(message.with_payload(None))
                self._something_large.set()
                return
            self._payload_bytes += len(payload)
        self._send_at_once(message)

    def _send_at_once(self, message: Outbound | LoadedAssignment) -> None:
        self._at_once.append(message)
        self._idle.clear()
        self._something.set()
        self._look_for_room()

    # --- acks -----------------------------------------------------------------------------------------------------

    def expect_ack(self) -> PendingAck:
        """Takes a place in the order of the acks."""
        pending = PendingAck()
        self._unanswered += 1
        self._all_answered.clear()
        self._look_for_room()
        if self._ordered:
            self._acks.append(pending)
        return pending

    def answer(self, pending: PendingAck, ack: Ack) -> None:
        """Fills a place; on an ordered stream it is written when all before it are."""
        if pending.ack is not None:
            return
        pending.ack = ack
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()
        self._look_for_room()
        if self._ordered:
            while self._acks and (known := self._acks[0].ack) is not None:
                self._acks.popleft()
                self._send_at_once(known)
        else:
            self._send_at_once(ack)

    @property
    def has_unanswered(self) -> bool:
        """Whether acks are still to come."""
        return self._unanswered > 0

    async def all_answered(self) -> None:
        """Waits until no ack is still to come."""
        await self._all_answered.wait()

    async def has_room(self) -> None:
        """Waits until the worker may send more."""
        await self._room.wait()

    def _look_for_room(self) -> None:
        if self._unanswered < UNANSWERED and len(self._at_once) < UNWRITTEN:
            self._room.set()
        else:
            self._room.clear()

    # --- the writer and the loader --------------------------------------------------------------------------------

    async def take(self) -> list[Outbound | LoadedAssignment]:
        """Waits for something to write and takes all that goes into one write: everything for a batched stream, one
        message for an ordered one. What is not taken can still be withdrawn."""
        while not self._at_once:
            # Again, when what there was has been withdrawn before its turn came.
            self._something.clear()
            self._idle.set()
            await self._something.wait()
        taken = [self._at_once.popleft()]
        if not self._ordered:
            taken += self._at_once
            self._at_once.clear()
        for message in taken:
            if isinstance(message, Assignment):
                self._payload_bytes -= len(message.execution.payload or b"")
        self._look_for_room()
        return taken

    async def idle(self) -> None:
        """Waits until the writer has written everything and asks for more."""
        await self._idle.wait()

    async def first_large(self) -> Assignment:
        """Waits for an assignment whose payload is to be read. It stays in its place until it is delivered."""
        while not self._large:
            self._something_large.clear()
            await self._something_large.wait()
        return self._large[0]

    async def deliver_large(self, assignment: Assignment, payload: bytes) -> None:
        """Queues the first large assignment with its payload, and waits until it is written or withdrawn. Does
        nothing if it was withdrawn meanwhile."""
        if not self._large or self._large[0] is not assignment:
            return
        self._large.popleft()
        loaded = LoadedAssignment(assignment.with_payload(payload))
        self._send_at_once(loaded)
        await loaded.left.wait()

    def withdraw(self, execution_id: ExecutionId) -> bool:
        """Takes back one assignment; False if the writer has taken it already."""
        return bool(self._withdraw(lambda assignment: assignment.execution.execution_id == execution_id))

    def withdraw_assignments(self) -> list[ExecutionId]:
        """Takes back the assignments that the writer has not taken yet."""
        return self._withdraw(lambda _: True)

    def _withdraw(self, chosen: Callable[[Assignment], bool]) -> list[ExecutionId]:
        withdrawn: list[ExecutionId] = []
        kept: deque[Outbound | LoadedAssignment] = deque()
        for message in self._at_once:
            assignment = message.assignment if isinstance(message, LoadedAssignment) else message
            if not isinstance(assignment, Assignment) or not chosen(assignment):
                kept.append(message)
                continue
            withdrawn.append(assignment.execution.execution_id)
            if isinstance(message, LoadedAssignment):
                message.left.set()
            else:
                self._payload_bytes -= len(assignment.execution.payload or b"")
        self._at_once = kept
        withdrawn += [assignment.execution.execution_id for assignment in self._large if chosen(assignment)]
        self._large = deque(assignment for assignment in self._large if not chosen(assignment))
        return withdrawn
