"""A worker that serves beside the test, in a thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dispatchd import Worker


@contextmanager
def serving(worker: Worker) -> Iterator[None]:
    """Serves while the block runs, and drains at its end. A failure of the worker ends its thread and is printed."""
    thread = threading.Thread(target=lambda: asyncio.run(worker.serve()), name="worker")
    thread.start()
    try:
        yield
    finally:
        worker.drain()
        thread.join()
