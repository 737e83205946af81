"""The two kills, each once a part of the jobs has ended. Nothing that was killed is started again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dispatchd.demo.readings import Readings
from dispatchd.demo.worker_process import WorkerProcess
from dispatchd.entrypoints.role_process import RoleProcess

_LOOK_EVERY_S = 0.05
_FROZEN_S = 1.0


@dataclass(frozen=True, slots=True)
class Kill:
    """Due when `at` jobs have ended; `carry_out` returns what happened, in a sentence."""

    at: int
    carry_out: Callable[[], Awaitable[str]]


def plan_kills(
    total: int, workers: Sequence[WorkerProcess], gateways: Sequence[RoleProcess], read: Readings
) -> list[Kill]:
    """After a third of the jobs the second worker, after two thirds the gateway that the first worker is on."""
    survivor, victim = workers
    gateway, *_ = gateways
    return [
        Kill(total // 3, lambda: _kill_worker(victim, read)),
        Kill(total * 2 // 3, lambda: _kill_gateway(gateway, survivor)),
    ]


async def _kill_worker(worker: WorkerProcess, read: Readings) -> str:
    """Kills it with work in its hands. Files are hashed in no time, so it is frozen until some has come."""
    worker.freeze()
    held, is_settled = 0, False
    try:
        async with asyncio.timeout(_FROZEN_S):
            while not is_settled:
                await asyncio.sleep(_LOOK_EVERY_S)
                held, is_settled = await read.held(worker.worker_id)
    except TimeoutError:
        pass  # nothing was left to be given to it
    await worker.kill()
    return f"SIGKILL for {worker.worker_id}, which holds {held} executions: they come back when its lease is over."


async def _kill_gateway(gateway: RoleProcess, worker: WorkerProcess) -> str:
    await gateway.kill()
    return f"SIGKILL for {gateway.name}: {worker.worker_id} goes on over the other one, with what it holds."
