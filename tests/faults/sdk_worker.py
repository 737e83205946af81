"""A worker with the SDK, as users build one; its ledger has what its handlers see.

`python -m faults.sdk_worker --gateway TARGET --ledger FILE --worker-id ID`, with `tests` on the path. It has a
coroutine for `faults.work` and a plain function, which runs in a thread, for `faults.thread`. Handlers don't see
leases, so this ledger says which executions came and how their handlers ended, and nothing about who held them.
"""

import argparse
import asyncio
import random
import time
from pathlib import Path

from dispatchd import Fail, TaskContext, Worker
from faults.events import HandlerBegan, HandlerEnd, HandlerEnded, LedgerRole
from faults.ledger import LedgerWriter, now_ns


class PlannedFailure(Exception):
    """The handler fails as planned; the job is tried again."""


class Handlers:
    """What both handlers do: note the begin, work for a random short time, fail now and then, note the end."""

    def __init__(self, ledger: LedgerWriter, work_s: float, fail_share: float, seed: int) -> None:
        self._ledger = ledger
        self._work_s = work_s
        self._fail_share = fail_share
        self._random = random.Random(seed)

    async def work(self, payload: dict[str, int], context: TaskContext) -> str:
        """The coroutine."""
        self._began(context)
        try:
            await asyncio.sleep(self._duration_s())
        except asyncio.CancelledError:
            self._ended(context, HandlerEnd.CANCELLED)
            raise
        return self._end(context)

    def thread(self, payload: dict[str, int], context: TaskContext) -> str:
        """The plain function."""
        self._began(context)
        time.sleep(self._duration_s())
        return self._end(context)

    def _duration_s(self) -> float:
        return self._random.expovariate(1 / self._work_s)

    def _end(self, context: TaskContext) -> str:
        chance = self._random.random()
        if chance < self._fail_share:
            self._ended(context, HandlerEnd.RAISED)
            raise Fail("as planned, for good") if chance < self._fail_share / 10 else PlannedFailure("as planned")
        self._ended(context, HandlerEnd.RETURNED)
        return context.execution_id

    def _began(self, context: TaskContext) -> None:
        self._ledger.note(HandlerBegan(now_ns(), context.execution_id, context.job_id, context.attempt))

    def _ended(self, context: TaskContext, end: HandlerEnd) -> None:
        self._ledger.note(HandlerEnded(now_ns(), context.execution_id, end))


def main() -> None:
    parser = argparse.ArgumentParser(description="Works with the SDK and keeps a ledger.")
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--work-s", type=float, default=0.05)
    parser.add_argument("--fail-share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with LedgerWriter(arguments.ledger, LedgerRole.SDK_WORKER, arguments.worker_id) as ledger:
        handlers = Handlers(ledger, arguments.work_s, arguments.fail_share, arguments.seed)
        worker = Worker(arguments.gateway, worker_id=arguments.worker_id, max_concurrency=arguments.slots)
        worker.task("faults.work")(handlers.work)
        worker.task("faults.thread")(handlers.thread)
        worker.run()


if __name__ == "__main__":
    main()
