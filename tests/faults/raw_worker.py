"""A worker on the raw stream, without the SDK, that writes down everything it is told.

`python -m faults.raw_worker --gateways HOST:PORT[,HOST:PORT] --ledger FILE --worker-id ID`, with `tests` on the path.

    Assigned ──▶ works for a random short time ──▶ result ──▶ kept and sent again on each new stream until it is acked
        └─ now and then ──▶ give-back                 └─ accepted, now and then: a repeat, with the same flag or another

It declares batching, started and resume, and behaves as hard as the contract allows: it never stops working because
its lease has run out, and sends its late result, as a thread that nobody can stop would. What the server no longer
wants is answered with a failure. SIGTERM drains it: it takes nothing more, and after three seconds gives back.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dispatchd.sdk.backoff import Backoff
from dispatchd.v1 import dispatchd_pb2 as v1
from faults.events import (
    Assigned,
    CancelTold,
    GaveBack,
    GiveBackAcked,
    LedgerRole,
    Outcome,
    ResultAcked,
    ResultSent,
)
from faults.ledger import LedgerWriter, now_ns
from faults.options import add_options
from faults.raw_stream import RawStream
from faults.signals import stop_event

FEATURES = (v1.WORKER_FEATURE_BATCHING, v1.WORKER_FEATURE_STARTED, v1.WORKER_FEATURE_RESUME)
DRAIN_S = 3.0
LEAVE_S = 3.0
MOST_IN_MESSAGE = 1_000


@dataclass(frozen=True, slots=True)
class Habits:
    """How the worker works. Shares are probabilities of one execution; times are in seconds."""

    worker_id: str
    gateways: tuple[str, ...]
    capability: str = "faults"
    slots: int = 8
    work_s: float = 0.05
    fail_share: float = 0.1
    final_share: float = 0.1
    """Of the failures, those that ask not to be retried."""
    give_back_share: float = 0.02
    repeat_share: float = 0.05
    seed: int = 0


@dataclass(slots=True)
class Held:
    """An execution from its assignment until the ack of its result or give-back."""

    execution_id: str
    work: asyncio.Task[None] | None = None
    success: bool | None = None
    is_returned: bool = False
    was_sent: bool = False
    """On the current stream."""

    @property
    def is_over(self) -> bool:
        return self.is_returned or self.success is not None


class RawWorker:
    """One process of a worker: its hands, over as many streams as it takes."""

    def __init__(self, habits: Habits, ledger: LedgerWriter, stop: asyncio.Event) -> None:
        self._habits = habits
        self._ledger = ledger
        self._stop = stop
        self._random = random.Random(habits.seed)
        self._held: dict[str, Held] = {}
        self._begun: list[str] = []
        self._repeats: dict[str, bool] = {}
        """Success flags of results that are to be sent though they were acked."""
        self._repeated: dict[str, bool] = {}
        self._works = asyncio.TaskGroup()
        self._stream: RawStream | None = None
        self._backoff = Backoff(0.05, 1.0)
        self._is_over = False

    async def run(self) -> None:
        """Works until `stop` is set and the drain is over."""
        async with self._works:
            leaving = self._works.create_task(self._leave(), name="leave")
            number = 0
            while not self._is_over:
                number += 1
                gateway = self._random.choice(self._habits.gateways)
                self._stream = RawStream(number, gateway, self, self._ledger)
                await self._stream.run()
                await asyncio.sleep(self._backoff.next_s())
            leaving.cancel()
            self._cancel_works()

    async def _leave(self) -> None:
        await self._stop.wait()
        if self._stream is not None:
            self._stream.beat()
        await self._until_empty(DRAIN_S)
        for held in self._held.values():
            if not held.is_over:
                held.is_returned = True
        self._cancel_works()
        self._speak()
        await self._until_empty(LEAVE_S)
        self._is_over = True
        if self._stream is not None:
            self._stream.close()

    async def _until_empty(self, longest_s: float) -> None:
        ends_ns = now_ns() + longest_s * 1e9
        while self._held and now_ns() < ends_ns:  # noqa: ASYNC110  (it ends once, and a tick late does not matter)
            await asyncio.sleep(0.02)

    def _cancel_works(self) -> None:
        for held in self._held.values():
            if held.work is not None:
                held.work.cancel()

    def _speak(self) -> None:
        if self._stream is not None:
            self._stream.wake()

    # --- what the stream asks (Hands) -----------------------------------------------------------------------------

    def registration(self) -> v1.WorkerRegistration:
        """Names everything that is held."""
        habits = self._habits
        return v1.WorkerRegistration(
            worker_id=habits.worker_id,
            capabilities=[habits.capability],
            max_concurrency=habits.slots,
            features=FEATURES,
            process_id=self._ledger.process_id,
            held_execution_ids=list(self._held),
        )

    def registered(self) -> None:
        """Says again what the last stream may have swallowed."""
        self._backoff.reset()
        self._repeated.clear()
        self._begun = [held.execution_id for held in self._held.values() if not held.is_over]
        for held in self._held.values():
            held.was_sent = False
        self._speak()

    def status(self) -> v1.WorkerStatus:
        """DRAINING once it is to stop."""
        return v1.WORKER_STATUS_DRAINING if self._stop.is_set() else v1.WORKER_STATUS_READY

    def next_message(self, stream: int) -> v1.ConnectRequest | None:
        """Notices of begun work first, then results, then give-backs."""
        if self._begun:
            begun, self._begun = self._begun[:MOST_IN_MESSAGE], self._begun[MOST_IN_MESSAGE:]
            return v1.ConnectRequest(started=v1.ExecutionsStarted(execution_ids=begun))
        results = [self._result(held.execution_id, held.success) for held in self._unsent(is_returned=False)]
        results += [self._repeat(execution_id) for execution_id in list(self._repeats)]
        if results:
            for result in results:
                self._ledger.note(ResultSent(now_ns(), stream, result.execution_id, result.success))
            return v1.ConnectRequest(results=v1.TaskResults(results=results))
        returned = [held.execution_id for held in self._unsent(is_returned=True)]
        if returned:
            for execution_id in returned:
                self._ledger.note(GaveBack(now_ns(), stream, execution_id))
            return v1.ConnectRequest(give_back=v1.GiveBack(execution_ids=returned))
        return None

    def assigned(self, stream: int, assignments: Iterable[v1.TaskAssignment]) -> None:
        """Begins to work on these, or gives them back."""
        for assignment in assignments:
            execution_id = assignment.execution_id
            expires_us = assignment.lease_expires_at.ToMicroseconds()
            noted = Assigned(now_ns(), stream, execution_id, assignment.job_id, assignment.attempt, expires_us)
            self._ledger.note(noted)
            if execution_id in self._held:
                continue
            held = self._held[execution_id] = Held(execution_id)
            if self._stop.is_set() or self._random.random() < self._habits.give_back_share:
                held.is_returned = True
            else:
                self._begun.append(execution_id)
                held.work = self._works.create_task(self._work(held), name=f"work {execution_id}")
        self._speak()

    def acked(self, stream: int, ack: v1.WorkerAck) -> None:
        """Lets go of what was answered."""
        outcome = Outcome(v1.AckOutcome.Name(ack.outcome).removeprefix("ACK_OUTCOME_").lower())
        held = self._held.get(ack.execution_id)
        if held is None:
            repeated = self._repeated.pop(ack.execution_id, None)
            if repeated is not None:
                self._ledger.note(ResultAcked(now_ns(), stream, ack.execution_id, repeated, outcome))
        elif held.was_sent:
            del self._held[ack.execution_id]
            if held.success is None:
                self._ledger.note(GiveBackAcked(now_ns(), stream, ack.execution_id, outcome))
                return
            self._ledger.note(ResultAcked(now_ns(), stream, ack.execution_id, held.success, outcome))
            if outcome is Outcome.ACCEPTED and self._random.random() < self._habits.repeat_share:
                self._repeats[ack.execution_id] = self._random.choice((True, False))
                self._speak()

    def unwanted(self, stream: int, execution_ids: Iterable[str], *, is_signal: bool) -> None:
        """Stops working on these and says so."""
        told = tuple(execution_ids)
        if is_signal:
            self._ledger.note(CancelTold(now_ns(), stream, told))
        for execution_id in told:
            held = self._held.get(execution_id)
            if held is not None and not held.is_over:
                if held.work is not None:
                    held.work.cancel()
                held.success = False
        self._speak()

    # --- work -----------------------------------------------------------------------------------------------------

    async def _work(self, held: Held) -> None:
        await asyncio.sleep(self._random.expovariate(1 / self._habits.work_s))
        held.success = self._random.random() >= self._habits.fail_share
        self._speak()

    def _unsent(self, *, is_returned: bool) -> list[Held]:
        """What is to be said now; it counts as said."""
        unsent = [
            held
            for held in self._held.values()
            if held.is_over and not held.was_sent and held.is_returned is is_returned
        ][:MOST_IN_MESSAGE]
        for held in unsent:
            held.was_sent = True
        return unsent

    def _repeat(self, execution_id: str) -> v1.TaskResult:
        success = self._repeated[execution_id] = self._repeats.pop(execution_id)
        return self._result(execution_id, success)

    def _result(self, execution_id: str, success: bool | None) -> v1.TaskResult:
        if success:
            return v1.TaskResult(execution_id=execution_id, success=True, payload=execution_id.encode())
        is_final = random.Random(execution_id).random() < self._habits.final_share
        return v1.TaskResult(execution_id=execution_id, error_message="as planned", do_not_retry=is_final)


async def work(habits: Habits, path: Path) -> None:
    """Works with a new ledger at `path` until SIGTERM."""
    with LedgerWriter(path, LedgerRole.RAW_WORKER, habits.worker_id) as ledger, stop_event(signal.SIGTERM) as stop:
        await RawWorker(habits, ledger, stop).run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Works on the raw stream and keeps a ledger.")
    parser.add_argument("--ledger", type=Path, required=True)
    add_options(parser, Habits)
    arguments = vars(parser.parse_args())
    path = arguments.pop("ledger")
    asyncio.run(work(Habits(**arguments), path))


if __name__ == "__main__":
    main()
