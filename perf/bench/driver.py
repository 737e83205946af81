"""Runs a driver in a process of its own, so that nothing else takes time in its event loop."""

import asyncio
import gc
import multiprocessing
import signal
import traceback
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import uvloop

from perf.bench.failure import BenchFailed

Order = TypeVar("Order")
Outcome = TypeVar("Outcome")

_LONGEST_RUN_S = 300.0


async def in_own_process(drive: Callable[[Order], Awaitable[Outcome]], order: Order) -> Outcome:
    """Runs `drive(order)` under uvloop in a fresh process and returns what it returns.

    `drive` is a function of a module. Raises BenchFailed with the driver's traceback if it fails, ends by itself, or
    takes more than five minutes. The process never outlives the call.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(drive, order, sender), name=drive.__module__, daemon=True)
    process.start()
    sender.close()
    receiving = asyncio.ensure_future(asyncio.to_thread(_receive, receiver))
    try:
        async with asyncio.timeout(_LONGEST_RUN_S):
            outcome: Outcome = await asyncio.shield(receiving)
            return outcome
    except TimeoutError:
        raise BenchFailed(f"{drive.__module__} did not end within {_LONGEST_RUN_S:g} s") from None
    finally:
        process.kill()
        process.join()
        # The pipe is closed now, so the thread ends.
        await asyncio.wait({receiving})


def _receive(receiver: "Connection[Any, Any]") -> Any:
    with receiver:
        try:
            outcome, failure = receiver.recv()
        except EOFError:
            failure = "it ended without a result"
    if failure is not None:
        raise BenchFailed(f"a driver failed: {failure}")
    return outcome


def _run(drive: Callable[[Any], Any], order: Any, sender: "Connection[Any, Any]") -> None:
    # Ctrl-C in a terminal goes to the parent too, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    with sender:
        try:
            sender.send((uvloop.run(drive(order)), None))
        except Exception:
            sender.send((None, traceback.format_exc()))
