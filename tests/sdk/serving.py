"""Running a worker inside a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dispatchd import Worker

END_S = 20.0


@asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Let the worker serve in this loop for as long as the block lasts; gives the task of `serve`."""
    task = asyncio.create_task(worker.serve(), name="serve")
    try:
        yield task
    finally:
        worker.stop()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=END_S)
        assert done, "serve has not ended"
        if not task.cancelled():
            task.exception()  # the test looked at it, or does not care
