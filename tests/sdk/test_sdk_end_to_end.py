"""The SDK and the real roles together: a control-plane, a scheduler and two worker-gateways over Postgres and Redis."""

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dispatchd import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Execution,
    ExecutionEndReason,
    Fail,
    IdempotencyConflict,
    InvalidRequest,
    Job,
    JobCanceled,
    JobFailed,
    JobStatus,
    Retry,
    Submission,
    Task,
    TaskContext,
    Worker,
)
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from sdk.gates import Gate, ThreadGate
from sdk.serving import serving

SHORT_LEASE_S = 2
PATIENCE_S = 60

HASHER = """
import hashlib, sys
from dispatchd import Worker
worker = Worker(sys.argv[1], worker_id=sys.argv[2], max_concurrency=1)

@worker.task("file.hash")
def hash_file(data: bytes) -> str:
    print("begun", flush=True)
    if sys.argv[2] == "doomed":
        sys.stdin.read()
    return hashlib.sha256(data).hexdigest()

worker.run()
"""


@pytest.fixture
def lease_s() -> int:
    """Longer than a busy machine makes a worker wait; tests in which a lease runs out have a shorter one."""
    return 30


@pytest.fixture
async def installation(
    tmp_path: Path, database_url: str, redis_address: str, lease_s: int
) -> AsyncIterator[Installation]:
    environ = dict(os.environ) | {
        "DATABASE_URL": database_url,
        "REDIS_ADDRESS": redis_address,
        "LEASE_DURATION": f"{lease_s}s",
    }
    async with Installation(tmp_path, environ, worker_gateways=2) as running:
        yield running


@pytest.fixture
def gateways(installation: Installation) -> list[RoleProcess]:
    return installation.of_role(Role.WORKER_GATEWAY)


@pytest.fixture
def worker(gateways: list[RoleProcess]) -> Worker:
    """A worker that knows both gateways, and is on the first as long as that takes it."""
    addresses = ",".join(process.grpc_address.replace("localhost", "127.0.0.1") for process in gateways)
    return Worker(f"ipv4:{addresses}", worker_id="w1", max_concurrency=20)


@pytest.fixture
async def client(installation: Installation) -> AsyncIterator[AsyncClient]:
    [control_plane] = installation.of_role(Role.CONTROL_PLANE)
    async with AsyncClient(control_plane.grpc_address) as opened:
        yield opened


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a fact that only repeated looking can show."""
    async with asyncio.timeout(PATIENCE_S):
        while not await look():  # noqa: ASYNC110 - the fact is in another process
            await asyncio.sleep(0.02)


async def _is(fact: bool) -> bool:
    return fact


async def gateway_of_only_worker(client: AsyncClient) -> str:
    """The name of the process that the only worker in the registry is connected to."""
    [registered] = [each async for each in client.workers()]
    return registered.gateway.rpartition("-")[0]


async def _is_on(client: AsyncClient, gateway: str) -> bool:
    return await gateway_of_only_worker(client) == gateway


async def executions(client: AsyncClient, job: Job) -> list[Execution]:
    return [execution async for execution in client.executions(job)]


async def test_jobs_are_submitted_run_and_read(client: AsyncClient, worker: Worker) -> None:
    @worker.task("report.render", timeout=30, max_attempts=5)
    async def render(pages: dict[str, int], context: TaskContext) -> list[int]:
        context.log(f"attempt {context.attempt}")
        return [value * 2 for value in pages.values()]

    @worker.task("file.reverse")
    def reverse(data: bytes) -> bytes:
        return data[::-1]

    async with serving(worker):
        job = await client.submit(render, {"a": 1, "b": 2}, metadata={"tenant": "x"})
        assert await client.result(job, render, timeout=PATIENCE_S) == [2, 4]
        raw = await client.submit(reverse, b"\x00\x01")
        assert await client.result(raw, reverse, timeout=PATIENCE_S) == b"\x01\x00"
        read = await client.get(job)
        registered = [each async for each in client.workers()]
    assert (read.status, read.result, read.attempts, read.metadata) == (
        JobStatus.SUCCEEDED,
        b"[2,4]",
        1,
        {"tenant": "x"},
    )
    assert read.timeout is not None
    assert (read.timeout.total_seconds(), read.retry_policy.max_attempts) == (30, 5)
    [execution] = await executions(client, job)
    assert (execution.worker_id, execution.end_reason) == ("w1", ExecutionEndReason.SUCCEEDED)
    assert [each.worker_id for each in registered] == ["w1"]
    assert sorted(registered[0].capabilities) == ["file", "report"]


async def test_three_thousand_concurrent_submits_all_end_once(client: AsyncClient, worker: Worker) -> None:
    seen: Counter[int] = Counter()

    @worker.task("report.count")
    async def count(number: int) -> int:
        seen[number] += 1
        return number

    async with serving(worker):
        alone = asyncio.gather(*(client.submit(count, number) for number in range(1_500)))
        many = client.submit_many(Submission(job_type=count, payload=number) for number in range(1_500, 3_000))
        jobs = [job for job in [*await alone, *await many] if isinstance(job, Job)]
        ended = await asyncio.gather(*(client.wait(job, timeout=PATIENCE_S) for job in jobs))
    assert {job.status for job in ended} == {JobStatus.SUCCEEDED}
    assert sorted(int(job.result or b"") for job in ended) == list(range(3_000))
    assert seen == Counter(range(3_000))


async def test_errors_come_back_as_what_a_caller_can_do(client: AsyncClient) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.submit("report.render", b"1", priority=-1)
    assert caught.value.field == "priority"
    with pytest.raises(InvalidRequest):
        await client.submit("report.render", b"")
    with pytest.raises(InvalidRequest):
        await client.get("nonsense")
    first = await client.submit("report.render", b"1", idempotency_key="key")
    assert (await client.submit("report.render", b"1", idempotency_key="key")).job_id == first.job_id
    with pytest.raises(IdempotencyConflict):
        await client.submit("report.render", b"2", idempotency_key="key")


async def test_retries_failures_and_redrive(client: AsyncClient, worker: Worker) -> None:
    attempts: list[int] = []

    @worker.task("report.flaky")
    async def flaky(value: int, context: TaskContext) -> int:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise Retry("not yet", after=0.01) if context.attempt == 1 else LookupError("not there")
        return value

    @worker.task("report.hopeless", max_attempts=1)
    async def hopeless(value: int) -> int:
        raise LookupError("gone")

    @worker.task("report.refused")
    async def refused(value: int) -> int:
        raise Fail("no such customer", error_type="NoCustomer")

    async with serving(worker):
        job = await client.submit(flaky, 7, initial_backoff=0.01)
        assert await client.result(job, flaky, timeout=PATIENCE_S) == 7
        assert attempts == [1, 2, 3]
        for task, message in ((hopeless, "gone"), (refused, "no such customer")):
            with pytest.raises(JobFailed, match=message):
                await client.result(await client.submit(task, 1, max_attempts=50), task, timeout=PATIENCE_S)
        with pytest.raises(JobFailed, match=r"does not fit task report\.flaky"):
            await client.result(await client.submit("report.flaky", "many"), timeout=PATIENCE_S)
        letters = [letter async for letter in client.dead_letters("report.refused")]
        assert [letter.last_error for letter in letters] == ["no such customer"]
        [redriven] = await client.redrive(letters)
        assert isinstance(redriven, Job)
        assert (await client.wait(redriven, timeout=PATIENCE_S)).status is JobStatus.FAILED
        assert [execution.error_type for execution in await executions(client, redriven)] == ["NoCustomer"] * 2


async def test_a_canceled_job_is_cancelled_where_it_runs(client: AsyncClient, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        job = await client.submit("report.render", 1)
        await eventually(lambda: _is(bool(gate.running)))
        assert (await client.cancel(job)).status is JobStatus.CANCELED
        await asyncio.wait_for(gate.was_cancelled.wait(), PATIENCE_S)
        with pytest.raises(JobCanceled):
            await client.result(job, timeout=PATIENCE_S)


async def test_a_stopping_gateway_and_a_killed_one_burn_no_attempt(
    client: AsyncClient, worker: Worker, gateways: list[RoleProcess]
) -> None:
    gate = Gate(worker)
    thread_gate = ThreadGate(worker)
    async with serving(worker):
        jobs = [await client.submit("report.render", 1), await client.submit("report.compute", 2)]
        await eventually(lambda: _is(bool(gate.running and thread_gate.contexts)))
        first = await gateway_of_only_worker(client)
        [second] = {process.name for process in gateways} - {first}
        by_name = {process.name: process for process in gateways}
        await by_name[first].stop(20)
        await eventually(lambda: _is_on(client, second))
        await by_name[first].start()
        await by_name[first].wait_ready()
        await by_name[second].kill()
        await eventually(lambda: _is_on(client, first))
        assert gate.ended == {}
        thread_gate.let_go()
        gate.let_go(*gate.running)
        for job in jobs:
            assert (await client.wait(job, timeout=PATIENCE_S)).status is JobStatus.SUCCEEDED
            assert [each.attempt for each in await executions(client, job)] == [1]


@pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])
async def test_a_task_that_blocks_its_loop_for_three_leases_runs_once(
    client: AsyncClient, gateways: list[RoleProcess], lease_s: int
) -> None:
    worker = Worker(gateways[0].grpc_address, worker_id="w1")
    blocked = threading.Event()

    @worker.task("report.block")
    async def block(seconds: float) -> str:
        blocked.wait(seconds)
        return "done"

    thread = threading.Thread(target=lambda: asyncio.run(worker.serve()))
    thread.start()
    job = await client.submit(block, 3.2 * lease_s)
    assert await client.result(job, block, timeout=PATIENCE_S) == "done"
    assert len(await executions(client, job)) == 1
    worker.drain()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()


async def test_a_drained_worker_gives_back_and_another_goes_on_with_the_same_attempt(
    client: AsyncClient, gateways: list[RoleProcess]
) -> None:
    first = Worker(gateways[0].grpc_address, worker_id="first", drain_timeout=0.1)
    second = Worker(gateways[1].grpc_address, worker_id="second")
    gates = [Gate(first), Gate(second)]
    async with serving(first) as serve:
        job = await client.submit("report.render", 1)
        await eventually(lambda: _is(bool(gates[0].running)))
        first.drain()
        await serve
    async with serving(second):
        await eventually(lambda: _is(bool(gates[1].running)))
        gates[1].let_go(*gates[1].running)
        await client.wait(job, timeout=PATIENCE_S)
    history = [(each.worker_id, each.attempt, each.end_reason) for each in await executions(client, job)]
    assert history == [
        ("first", 1, ExecutionEndReason.RETURNED),
        ("second", 1, ExecutionEndReason.SUCCEEDED),
    ]


@asynccontextmanager
async def worker_process(program: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])
async def test_a_killed_worker_loses_its_lease_and_another_finishes_the_job(
    client: AsyncClient, gateways: list[RoleProcess], tmp_path: Path
) -> None:
    program = tmp_path / "hasher.py"
    program.write_text(HASHER)
    async with worker_process(program, gateways[0].grpc_address, "doomed") as doomed:
        job = await client.submit("file.hash", b"data", initial_backoff=0.01)
        assert doomed.stdout is not None
        assert await asyncio.wait_for(doomed.stdout.readline(), PATIENCE_S) == b"begun\n"
    async with worker_process(program, gateways[1].grpc_address, "healthy"):
        result = await client.result(job, str, timeout=PATIENCE_S)
    assert result == "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    history = [(each.worker_id, each.attempt, each.end_reason) for each in await executions(client, job)]
    assert history == [
        ("doomed", 1, ExecutionEndReason.LEASE_LOST),
        ("healthy", 2, ExecutionEndReason.SUCCEEDED),
    ]


async def test_a_program_without_a_loop_works_with_the_real_roles(installation: Installation, worker: Worker) -> None:
    @worker.task("report.render")
    async def render(value: int) -> int:
        return value + 1

    [control_plane] = installation.of_role(Role.CONTROL_PLANE)

    def program(task: Task[int, int]) -> list[int]:
        with Client(control_plane.grpc_address) as client:
            jobs = [client.submit(task, number) for number in range(5)]
            return [client.result(job, task, timeout=PATIENCE_S) for job in jobs]

    async with serving(worker):
        assert await asyncio.to_thread(program, render) == [1, 2, 3, 4, 5]


async def test_a_wait_that_takes_too_long_says_how_the_job_stands(client: AsyncClient) -> None:
    job = await client.submit("nobody.does", b"x")
    with pytest.raises(DeadlineExceeded) as late:
        await client.wait(job, timeout=1)
    assert late.value.job is not None
    assert late.value.job.status is JobStatus.PENDING
