"""SIGTERM as an event of the running loop, so that a recording process can say its last words."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_event(number: signal.Signals) -> Iterator[asyncio.Event]:
    """An event that is set by this signal as long as the block runs."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        loop.remove_signal_handler(number)
