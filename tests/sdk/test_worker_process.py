"""A worker as a process of its own: what signals do, and that it ends in time."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.scripted_gateway import GatewayStream, ScriptedGateway

PROGRAM = """
import asyncio, logging, sys, time
from dispatchd import Worker

logging.basicConfig(level=logging.INFO)
worker = Worker(sys.argv[1], worker_id="w1", max_concurrency=4, drain_timeout=float(sys.argv[2]))

@worker.task("report.wait")
async def wait(value: int) -> int:
    await asyncio.sleep(value)
    return value

@worker.task("report.block")
async def block(value: int) -> int:
    # Python looks at signals between two calls, and misses one that comes just before a call that waits: in short naps.
    end = time.monotonic() + value
    while time.monotonic() < end:
        time.sleep(0.02)
    return value

@worker.task("report.compute")
def compute(value: int) -> int:
    time.sleep(value)
    return value

@worker.task("report.swallow")
async def swallow(value: int) -> int:
    while True:
        try:
            await asyncio.sleep(value)
        except asyncio.CancelledError:
            pass

worker.run()
print("run has returned")
"""


AT_REST = 2
"""Heartbeats after which the main thread is back in what the first signal interrupted: a second one that comes in the
instant before that is looked at by Python only when this is over (see `signal` in its library reference)."""


class WorkerProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Exit code and output; the output holds whatever was logged."""
        async with asyncio.timeout(30):
            output, _ = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, output.decode()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


Start = Callable[..., Coroutine[Any, Any, WorkerProcess]]


@pytest.fixture
async def start(tmp_path: Path, gateway: ScriptedGateway) -> AsyncIterator[Start]:
    (tmp_path / "program.py").write_text(PROGRAM)
    started: list[WorkerProcess] = []

    async def start_worker(drain_timeout: float = 20) -> WorkerProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(tmp_path / "program.py"),
            gateway.target,
            str(drain_timeout),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(WorkerProcess(process))
        return started[-1]

    yield start_worker
    for process in started:
        process.kill()
        await process.ended()


@asynccontextmanager
async def beginning(stream: GatewayStream, name: str, job_type: str, seconds: int) -> AsyncIterator[None]:
    """Assign an execution and wait until it has begun."""
    stream.assign(name, job_type=job_type, payload=str(seconds).encode())
    await stream.begun(name)
    yield


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(gateway: ScriptedGateway, start: Start, number: int) -> None:
    process = await start()
    stream = await gateway.register()
    async with beginning(stream, "e1", "report.wait", 1):
        process.signal(number)
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        assert (await stream.result()).success
        stream.ack("e1")
    code, output = await process.ended()
    assert (code, "run has returned" in output) == (0, True)


async def test_a_signal_reaches_a_worker_whose_loop_is_blocked(gateway: ScriptedGateway, start: Start) -> None:
    process = await start()
    stream = await gateway.register()
    async with beginning(stream, "e1", "report.block", 2):
        process.signal(signal.SIGTERM)
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        assert stream.nothing_more()
        assert (await stream.result()).success
        stream.ack("e1")
    assert (await process.ended())[0] == 0


async def test_a_worker_ends_although_a_thread_does_not(gateway: ScriptedGateway, start: Start) -> None:
    process = await start(drain_timeout=0.2)
    stream = await gateway.register()
    async with beginning(stream, "e1", "report.compute", 600):
        process.signal(signal.SIGTERM)
        await stream.is_over.wait()
    code, output = await process.ended()
    assert code == 0
    assert "left to their leases: e1" in output
    assert stream.nothing_more()


@pytest.mark.parametrize("job_type", ["report.wait", "report.block", "report.compute", "report.swallow"])
async def test_a_second_signal_stops_at_once(gateway: ScriptedGateway, start: Start, job_type: str) -> None:
    process = await start()
    stream = await gateway.register(lease_s=3)
    async with beginning(stream, "e1", job_type, 600):
        process.signal(signal.SIGTERM)
        await stream.beats_as(v1.WORKER_STATUS_DRAINING, times=AT_REST)
        process.signal(signal.SIGTERM)
        await stream.is_over.wait()
    code, output = await process.ended()
    assert (code, "run has returned" in output) == (128 + signal.SIGTERM, False)


async def test_a_third_signal_ends_the_process(gateway: ScriptedGateway, start: Start) -> None:
    process = await start()
    stream = await gateway.register(lease_s=3)
    async with beginning(stream, "e1", "report.swallow", 600):
        process.signal(signal.SIGTERM)
        await stream.beats_as(v1.WORKER_STATUS_DRAINING, times=AT_REST)
        process.signal(signal.SIGTERM)
        await stream.is_over.wait()
        process.signal(signal.SIGINT)
    assert (await process.ended())[0] == 128 + signal.SIGINT


async def test_a_superseded_worker_exits_with_an_error_that_names_its_id(
    gateway: ScriptedGateway, start: Start
) -> None:
    process = await start()
    stream = await gateway.register()
    stream.end(grpc.StatusCode.ABORTED, "superseded")
    code, output = await process.ended()
    assert code == 1
    assert "worker id 'w1' was taken over by another stream" in output.splitlines()[-1]
