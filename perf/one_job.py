"""Takes one job through a running installation: `python -m perf.one_job CONTROL_PLANE WORKER_GATEWAY`, as HOST:PORT.

Its first attempt asks for another one, which only the scheduler brings about, so that the job ends if all three roles
do their part. The exit code is 0 if it ended as it should within a minute, and 1 if it did not.
"""

import asyncio
import sys

from dispatchd import AsyncClient, DispatchdError, Retry, TaskContext, Worker

TIMEOUT_S = 60.0
"""How long the job may take; after twice as long nothing is waited for any more."""


async def one_job(control_plane: str, worker_gateway: str) -> str:
    """The result of the job. Raises DispatchdError or TimeoutError."""
    worker = Worker(worker_gateway)

    @worker.task("perf.one_job", max_attempts=2)
    async def answer(name: str, context: TaskContext) -> str:
        if context.attempt == 1:
            raise Retry("the scheduler has to bring it back", after=0.1)
        return f"{name}, in attempt {context.attempt}"

    serving = asyncio.create_task(worker.serve(), name="worker")
    try:
        async with asyncio.timeout(2 * TIMEOUT_S), AsyncClient(control_plane) as client:
            job = await client.submit(answer, "done")
            return await client.result(job, answer, timeout=TIMEOUT_S)
    finally:
        worker.stop()
        await serving


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("perf.one_job: name a control-plane and a worker-gateway, each as HOST:PORT\n")
        return 2
    try:
        sys.stdout.write(f"one job through all three roles: {asyncio.run(one_job(*arguments))}\n")
    except (DispatchdError, TimeoutError) as failure:
        sys.stderr.write(f"perf.one_job: {failure or 'nothing answered for too long'}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
