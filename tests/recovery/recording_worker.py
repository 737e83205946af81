"""A worker whose tasks write a ledger of their own: `python recording_worker.py GATEWAY LEDGER`.

A line a fact, each appended with one write: `begin JOB EXECUTION TIME` and `end JOB EXECUTION TIME`, times by the
machine's monotonic clock in nanoseconds.
"""

import asyncio
import os
import sys
import time

from dispatchd import TaskContext, Worker


def main() -> None:
    gateway, ledger = sys.argv[1:]
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    worker = Worker(gateway, max_concurrency=8)

    def write(fact: str, context: TaskContext) -> None:
        line = f"{fact} {context.job_id} {context.execution_id} {time.monotonic_ns()}\n"
        os.write(descriptor, line.encode())

    @worker.task("recovery.work")
    async def work(duration_s: float, context: TaskContext) -> str:
        write("begin", context)
        await asyncio.sleep(duration_s)
        write("end", context)
        return context.execution_id

    worker.run()


if __name__ == "__main__":
    main()
