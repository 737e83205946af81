"""A client and a worker generated from the first release of the contract work unchanged.

Their messages are built from the baseline descriptor image alone, so they know nothing of what was added since.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role

BASELINE = Path(__file__).parents[2] / "proto" / "dispatchd-v1-baseline.binpb"

pytestmark = pytest.mark.asyncio(loop_scope="module")


class EarlierRelease:
    """Messages and calls as a program of the first release has them."""

    def __init__(self, image: bytes) -> None:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(image).file:
            pool.Add(file)
        self._pool = pool

    def message(self, name: str) -> Any:
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"dispatchd.v1.{name}"))

    def number(self, enum: str, value: str) -> int:
        number: int = self._pool.FindEnumTypeByName(f"dispatchd.v1.{enum}").values_by_name[value].number
        return number

    def unary(self, channel: grpc.aio.Channel, method: str) -> Any:
        return channel.unary_unary(
            f"/dispatchd.v1.JobService/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self.message(f"{method}Response").FromString,
        )

    def stream(self, channel: grpc.aio.Channel) -> Any:
        return channel.stream_stream(
            "/dispatchd.v1.WorkerService/Connect",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self.message("ConnectResponse").FromString,
        )()


@pytest.fixture(scope="module")
def earlier() -> EarlierRelease:
    return EarlierRelease(BASELINE.read_bytes())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channels(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    """To the control-plane and to the worker-gateway."""
    folder = tmp_path_factory.mktemp("earlier")
    async with Installation(folder, {}, postgres_settings={"fsync": "off"}) as installation:
        clients = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
        workers = installation.of_role(Role.WORKER_GATEWAY)[0].grpc_address
        async with grpc.aio.insecure_channel(clients) as client, grpc.aio.insecure_channel(workers) as worker:
            yield client, worker


class EarlierWorker:
    """Registers, heartbeats with inflight 0, answers one message to each assignment."""

    def __init__(self, earlier: EarlierRelease, stream: Any, worker_id: str) -> None:
        self.request = earlier.message("ConnectRequest")
        self.stream = stream
        self.worker_id = worker_id

    async def register(self, capability: str, max_concurrency: int) -> None:
        registration = {
            "worker_id": self.worker_id,
            "capabilities": [capability],
            "max_concurrency": max_concurrency,
            "labels": {"zone": "a"},
        }
        await self.stream.write(self.request(registration=registration))
        first = await self.stream.read()
        assert first.ack.worker_id == self.worker_id

    async def heartbeat(self) -> None:
        await self.stream.write(self.request(heartbeat={"worker_id": self.worker_id, "inflight_executions": 0}))

    async def finish(self, execution_id: str, error: str = "") -> None:
        result = {"execution_id": execution_id, "success": not error, "error_message": error, "metadata": {"k": "v"}}
        await self.stream.write(self.request(result=result))


async def test_a_job_goes_from_submit_to_succeeded_by_polling(
    earlier: EarlierRelease, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    client, gateway = channels
    submit = earlier.message("SubmitJobRequest")
    answer = await earlier.unary(client, "SubmitJob")(
        submit(job_type="email.send", payload=b"hello", priority=3, idempotency_key="k-1", metadata={"team": "a"})
    )
    job = answer.job
    assert job.job_id.startswith("job_")
    assert (job.payload, job.priority, dict(job.metadata)) == (b"hello", 3, {"team": "a"})
    assert job.status == earlier.number("JobStatus", "JOB_STATUS_PENDING")
    assert job.retry_policy.max_attempts == 3
    assert (job.retry_policy.initial_backoff.seconds, job.retry_policy.max_backoff.seconds) == (5, 60)

    worker = EarlierWorker(earlier, earlier.stream(gateway), "earlier-1")
    await worker.register("email.receive", 1)
    assignment = (await worker.stream.read()).assignment
    assert (assignment.job_type, assignment.payload, assignment.attempt) == ("email.send", b"hello", 1)
    assert assignment.lease_expires_at.seconds > 0
    get = earlier.message("GetJobRequest")
    dispatching = (await earlier.unary(client, "GetJob")(get(job_id=job.job_id))).job
    assert dispatching.status == earlier.number("JobStatus", "JOB_STATUS_DISPATCHING")

    await worker.heartbeat()
    assert (await worker.stream.read()).ack.worker_id == "earlier-1"
    await worker.finish(assignment.execution_id)
    ack = (await worker.stream.read()).ack
    assert (ack.execution_id, ack.worker_id) == (assignment.execution_id, "earlier-1")
    done = (await earlier.unary(client, "GetJob")(get(job_id=job.job_id))).job
    assert done.status == earlier.number("JobStatus", "JOB_STATUS_SUCCEEDED")

    listed = await earlier.unary(client, "ListExecutions")(earlier.message("ListExecutionsRequest")(job_id=job.job_id))
    [execution] = listed.executions
    assert execution.status == earlier.number("ExecutionStatus", "EXECUTION_STATUS_SUCCEEDED")
    assert (execution.execution_id, execution.attempt, execution.worker_id) == (
        assignment.execution_id,
        1,
        "earlier-1",
    )
    assert execution.claimed_at.seconds <= execution.started_at.seconds <= execution.finished_at.seconds
    worker.stream.cancel()


async def test_acks_of_a_plain_stream_come_in_the_order_of_the_requests(
    earlier: EarlierRelease, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    client, gateway = channels
    submit = earlier.unary(client, "SubmitJob")
    for number in range(5):
        await submit(earlier.message("SubmitJobRequest")(job_type="order", payload=b"%d" % number))
    worker = EarlierWorker(earlier, earlier.stream(gateway), "earlier-2")
    await worker.register("order", 5)
    ids = [(await worker.stream.read()).assignment.execution_id for _ in range(5)]
    expected = []
    for execution_id in ids:
        await worker.finish(execution_id)
        await worker.heartbeat()
        expected += [execution_id, ""]
    acks = [(await worker.stream.read()).ack.execution_id for _ in expected]
    assert acks == expected
    worker.stream.cancel()


async def test_a_hundred_streams_with_heartbeats(
    earlier: EarlierRelease, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    _, gateway = channels

    async def one(number: int) -> None:
        worker = EarlierWorker(earlier, earlier.stream(gateway), f"many-{number}")
        await worker.register(f"many{number}", 4)
        for _ in range(5):
            await worker.heartbeat()
            assert (await worker.stream.read()).ack.worker_id == f"many-{number}"
        worker.stream.cancel()

    await asyncio.gather(*(one(number) for number in range(100)))


async def test_errors_have_the_codes_of_the_contract(
    earlier: EarlierRelease, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    client, gateway = channels
    submit, get = earlier.message("SubmitJobRequest"), earlier.message("GetJobRequest")

    async def code_of(method: str, request: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await earlier.unary(client, method)(request)
        assert caught.value.details()
        return caught.value.code()

    assert await code_of("SubmitJob", submit(job_type="a.b")) is grpc.StatusCode.INVALID_ARGUMENT
    assert await code_of("GetJob", get(job_id="job_" + "0" * 32)) is grpc.StatusCode.NOT_FOUND
    assert await code_of("GetJob", get(job_id="nonsense")) is grpc.StatusCode.INVALID_ARGUMENT
    await earlier.unary(client, "SubmitJob")(submit(job_type="a.b", payload=b"1", idempotency_key="same"))
    changed = submit(job_type="a.b", payload=b"2", idempotency_key="same")
    assert await code_of("SubmitJob", changed) is grpc.StatusCode.ALREADY_EXISTS
    stream = earlier.stream(gateway)
    await stream.write(earlier.message("ConnectRequest")(heartbeat={"worker_id": "nobody"}))
    assert await stream.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "register first" in await stream.details()


async def test_cancel_ends_a_running_job_and_its_late_result_changes_nothing(
    earlier: EarlierRelease, channels: tuple[grpc.aio.Channel, grpc.aio.Channel]
) -> None:
    client, gateway = channels
    submit, cancel = earlier.message("SubmitJobRequest"), earlier.message("CancelJobRequest")
    job = (await earlier.unary(client, "SubmitJob")(submit(job_type="cancel.me", payload=b"x"))).job
    worker = EarlierWorker(earlier, earlier.stream(gateway), "earlier-3")
    await worker.register("cancel", 1)
    assignment = (await worker.stream.read()).assignment
    canceled = earlier.number("JobStatus", "JOB_STATUS_CANCELED")
    assert (await earlier.unary(client, "CancelJob")(cancel(job_id=job.job_id))).job.status == canceled
    await worker.finish(assignment.execution_id)
    assert (await worker.stream.read()).ack.execution_id == assignment.execution_id
    assert (await earlier.unary(client, "CancelJob")(cancel(job_id=job.job_id))).job.status == canceled
    worker.stream.cancel()
