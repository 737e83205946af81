"""The fixture that proves that nothing holds up the event loop can fail."""

import asyncio
import threading

from loop_watching import LoopWatch


async def test_a_call_that_blocks_the_loop_is_found_with_its_stack() -> None:
    with LoopWatch(asyncio.get_running_loop(), longest_stall_s=0.05) as watch:
        # A watch that was late itself says nothing, and asks again when the loop has answered.
        while not watch.stalls:
            _block(watch)
            await asyncio.sleep(0.05)
    assert "_block" in watch.stalls[0]


async def test_a_loop_that_only_waits_is_not_blamed(loop_watch: LoopWatch) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, event.set)
    await event.wait()
    assert loop_watch.stalls == []


def _block(watch: LoopWatch) -> None:
    tick = threading.Event()
    for _ in range(50):
        if not watch.stalls:
            tick.wait(0.01)
