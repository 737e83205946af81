"""What this worker holds, from assignment to acked result. Data and transitions only: no I/O, no clock, one thread.

                     a slot is free              the function ended
    assigned ─► WAITING ─────────► RUNNING ───────────────────────────► FINISHED ─┐
                   │                  │     cancelled: canceled, lost ──►   │     │ acked
                   │ drain,           │                                     │     ├──────► gone
                   │ lease lost       │ cancelled: drain, lease lost        │     │
                   └──────────────────┴──────────────────────────► RETURNED ┘─────┘

Everything in here is named at registration, because what that list omits is ended by the server. Results and give-backs
are kept until they are acked, and are sent again on each new stream. A function that nobody can stop keeps its slot
until it returns, even if its execution is already gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dispatchd.sdk.task import Task
from dispatchd.v1 import dispatchd_pb2 as v1

MAX_IN_MESSAGE = 1_000
# A registration names everything that is held, and the server takes no longer list.
MAX_HELD = 10_000
# A result is at most 1 MiB and a message at most 4 MiB: one more result always fits after this much.
MAX_MESSAGE_BYTES = 2 * 1024 * 1024


class HeldState(StrEnum):
    """Where an execution stands in this worker."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    RETURNED = "returned"


class StopReason(StrEnum):
    """Why a running function is being stopped."""

    LEASE_LOST = "the lease could not be kept"
    DRAINED = "the worker is stopping"
    UNWANTED = "the server no longer wants it"


# Nobody else has ended these, so the worker gives them back; what is unwanted was ended by the server.
GIVES_BACK = frozenset({StopReason.LEASE_LOST, StopReason.DRAINED})


@dataclass(slots=True)
class Held:
    """One execution in the worker's hands."""

    assignment: v1.TaskAssignment
    task: Task[Any, Any]
    received_at: float
    state: HeldState = HeldState.WAITING
    stopping: StopReason | None = None
    result: v1.TaskResult | None = None

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self.assignment.execution_id

    was_sent: bool = False


class Ledger:
    """The executions of one worker, in the order they were assigned."""

    def __init__(self, max_concurrency: int):
        self._max_concurrency = max_concurrency
        # A server that counts slots stays well below this. What only waits for its ack is not counted: the server
        # frees a slot when it reads a result, before it commits it, and sends the next execution meanwhile.
        self._max_unfinished = 4 * max_concurrency
        self._held: dict[str, Held] = {}
        self._waiting: dict[str, None] = {}
        self._slots: set[str] = set()
        self._unannounced: dict[str, None] = {}
        self._unsent: dict[str, None] = {}
        self._is_draining = False
        self.changed = asyncio.Event()

    @property
    def held_ids(self) -> list[str]:
        """Everything held, for the registration."""
        return list(self._held)

    @property
    def is_busy(self) -> bool:
        """Whether every slot is taken."""
        return len(self._slots) >= self._max_concurrency

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held and no function runs."""
        return not self._held and not self._slots

    @property
    def only_threads_run(self) -> bool:
        """Whether nothing is left but plain functions that have not returned."""
        return all(held.state is HeldState.RUNNING and not held.task.is_async for held in self._held.values())

    @property
    def running_ids(self) -> list[str]:
        """The executions whose function has not returned, held or not."""
        return sorted(self._slots)

    def assign(self, held: Held) -> None:
        """Take an execution; what is too much, or comes during a drain, goes straight back."""
        if held.execution_id in self._held or held.execution_id in self._slots:
            return
        unfinished = len(self._waiting) + len(self._slots)
        is_too_much = unfinished >= self._max_unfinished or len(self._held) >= MAX_HELD
        self._held[held.execution_id] = held
        if is_too_much or self._is_draining:
            self._settle(held, HeldState.RETURNED)
        else:
            self._waiting[held.execution_id] = None
        self.changed.set()

    def start_next(self) -> list[Held]:
        """Return the executions to start now: as many as there are free slots, in order."""
        started = []
        while self._waiting and not self.is_busy:
            execution_id = next(iter(self._waiting))
            del self._waiting[execution_id]
            held = self._held[execution_id]
            held.state = HeldState.RUNNING
            self._slots.add(execution_id)
            started.append(held)
        return started

    def began(self, execution_ids: Iterable[str]) -> None:
        """The functions of these executions run now: the server is told."""
        self._unannounced.update((each, None) for each in execution_ids if self._is_running(each))

    def ended(self, execution_id: str, result: v1.TaskResult | None) -> None:
        """A function has returned, or None: it was cancelled. Frees its slot."""
        self._slots.discard(execution_id)
        if self._is_running(execution_id):
            held = self._held[execution_id]
            # Cancelled by nobody here: the user's loop is being closed, and the work is not done.
            if result is None and held.stopping is not StopReason.UNWANTED:
                self._settle(held, HeldState.RETURNED)
            else:
                self._settle(held, HeldState.FINISHED, result or _stopped(held))
        self.changed.set()

    def finish(self, execution_id: str, result: v1.TaskResult) -> None:
        """Record a result although the function still runs, and keeps its slot; what it returns comes too late."""
        if self._is_running(execution_id):
            self._settle(self._held[execution_id], HeldState.FINISHED, result)

    def stop(self, execution_ids: Iterable[str], reason: StopReason) -> list[Held]:
        """Return the running executions to be cancelled, each once; end at once what has not begun.

        A plain function can't be cancelled: it is left alone unless its result is no longer wanted.
        """
        to_cancel = []
        for held in [self._held[each] for each in execution_ids if each in self._held]:
            if held.state is HeldState.WAITING:
                self._end_waiting(held, reason)
            elif held.state is HeldState.RUNNING and (held.task.is_async or reason is StopReason.UNWANTED):
                if held.stopping is None:
                    to_cancel.append(held)
                if held.stopping is None or reason is StopReason.UNWANTED:
                    held.stopping = reason
        self.changed.set()
        return to_cancel

    def drain(self) -> None:
        """Give back what has not begun, and from now on whatever comes."""
        self._is_draining = True
        self.stop(list(self._waiting), StopReason.DRAINED)

    def acked(self, execution_id: str) -> None:
        """The server has taken a result or a give-back, or knows better: it is no longer held."""
        held = self._held.get(execution_id)
        if held is not None and held.was_sent:
            del self._held[execution_id]
            self._unsent.pop(execution_id, None)
            self.changed.set()

    def resend(self) -> None:
        """On a new stream: say again what the last one may have swallowed."""
        for held in self._held.values():
            if held.state is HeldState.RUNNING:
                self._unannounced[held.execution_id] = None
            elif held.state is not HeldState.WAITING:
                self._unsent[held.execution_id] = None

    def next_message(self) -> v1.ConnectRequest | None:
        """Return what is to be said next, or None. It counts as said."""
        if self._unannounced:
            return v1.ConnectRequest(started=v1.ExecutionsStarted(execution_ids=_take(self._unannounced)))
        results: list[v1.TaskResult] = []
        give_backs: list[str] = []
        size_bytes = 0
        while self._unsent and len(results) + len(give_backs) < MAX_IN_MESSAGE and size_bytes < MAX_MESSAGE_BYTES:
            held = self._held[next(iter(self._unsent))]
            is_give_back = held.result is None
            if (give_backs and not is_give_back) or (results and is_give_back):
                break
            del self._unsent[held.execution_id]
            held.was_sent = True
            if held.result is None:
                give_backs.append(held.execution_id)
            else:
                results.append(held.result)
                size_bytes += held.result.ByteSize()
        if results:
            return v1.ConnectRequest(results=v1.TaskResults(results=results))
        if give_backs:
            return v1.ConnectRequest(give_back=v1.GiveBack(execution_ids=give_backs))
        return None

    def _is_running(self, execution_id: str) -> bool:
        held = self._held.get(execution_id)
        return held is not None and held.state is HeldState.RUNNING

    def _end_waiting(self, held: Held, reason: StopReason) -> None:
        del self._waiting[held.execution_id]
        if reason in GIVES_BACK:
            self._settle(held, HeldState.RETURNED)
        else:
            held.stopping = reason
            self._settle(held, HeldState.FINISHED, _stopped(held))

    def _settle(self, held: Held, state: HeldState, result: v1.TaskResult | None = None) -> None:
        held.state = state
        held.result = result
        self._unannounced.pop(held.execution_id, None)
        self._unsent[held.execution_id] = None


def _stopped(held: Held) -> v1.TaskResult:
    # Acked STALE, since the server has ended the execution by itself; it tells the server that the slot is free.
    return v1.TaskResult(
        execution_id=held.execution_id, success=False, error_message=f"stopped: {held.stopping}", error_type="Stopped"
    )


def _take(ids: dict[str, None]) -> list[str]:
    taken = list(ids)[:MAX_IN_MESSAGE]
    for each in taken:
        del ids[each]
    return taken
