"""Bad input on a worker's stream: the right status, a message that says what to change, and nobody else disturbed."""

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dispatchd.telemetry import metrics
from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole, Site
from gateway.worker_stream import UNKNOWN, WorkerStream, worker
from loop_watching import LoopWatch

REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
AT_ONCE_S = 1.0


@pytest.fixture
async def bystander(site: Site, gateway: RunningRole, jobs: Client) -> AsyncIterator[None]:
    """A worker that beats and works all the while, and must not notice anything."""
    async with worker(gateway.address, "bystander") as stream:
        await stream.register("bystanding")
        enough = asyncio.Event()
        beating = asyncio.create_task(beat_until(stream, enough))
        yield
        enough.set()
        await beating
        await jobs.submit("bystanding")
        await stream.finish((await stream.assignment()).execution_id)


async def beat_until(stream: WorkerStream, enough: asyncio.Event) -> None:
    while not enough.is_set():
        await stream.heartbeat()
        await stream.ack(AT_ONCE_S)
        await asyncio.sleep(0.01)


async def ends(gateway: RunningRole, *messages: bytes, registers: bool) -> tuple[grpc.StatusCode, str]:
    """Sends messages on a stream, half-closes it, and returns how it ended."""
    async with worker(gateway.address) as stream:
        if registers:
            await stream.register()
        try:
            for message in messages:
                await stream.send_bytes(message)
            await stream.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream has ended meanwhile.
            pass
        return await stream.ended()


async def test_random_bytes_are_refused_and_nothing_else_happens(
    bystander: None, gateway: RunningRole, loop_watch: LoopWatch, facts: Facts
) -> None:
    chance = random.Random(20)
    for _ in range(60):
        data = chance.randbytes(chance.choice([1, 2, 3, 10, 100, 1000]))
        code, details = await ends(gateway, data, registers=False)
        assert code in REFUSALS, f"{data.hex()}: {code.name} {details}"
        assert details
    assert await facts.value("select count(*) from workers") == 1


async def test_damaged_messages_on_a_registered_stream_are_refused(bystander: None, gateway: RunningRole) -> None:
    chance = random.Random(21)
    whole = pb.ConnectRequest(
        results=pb.TaskResults(results=[pb.TaskResult(execution_id="exec_" + "0" * 32, success=True, payload=b"x")])
    ).SerializeToString()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        code, details = await ends(gateway, bytes(damaged), registers=True)
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}, f"{damaged.hex()}: {code} {details}"


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field, as protobuf writes it; numbers up to 31 and values up to 127 bytes."""
    tag = number << 3 | 2
    encoded = bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return encoded + bytes([len(value)]) + value


BAD_UTF8 = b"\xff\xfe"
BAD_STRINGS = {
    "worker_id of a registration": field(1, field(1, BAD_UTF8)),
    "capability": field(1, field(1, b"w") + field(2, BAD_UTF8)),
    "label": field(1, field(1, b"w") + field(4, field(1, BAD_UTF8))),
    "worker_id of a heartbeat": field(2, field(1, BAD_UTF8)),
    "execution_id": field(3, field(1, BAD_UTF8)),
    "error_message": field(3, field(3, BAD_UTF8)),
    "metadata": field(3, field(4, field(1, b"k") + field(2, BAD_UTF8))),
    "log message": field(4, field(2, BAD_UTF8)),
    "started id": field(20, field(1, BAD_UTF8)),
    "result in a list": field(21, field(1, field(1, BAD_UTF8))),
    "given back id": field(22, field(1, BAD_UTF8)),
}


async def test_invalid_utf8_is_named_as_such(bystander: None, gateway: RunningRole) -> None:
    for what, data in BAD_STRINGS.items():
        for registers in (False, True):
            code, details = await ends(gateway, data, registers=registers)
            assert code is grpc.StatusCode.INVALID_ARGUMENT, f"{what}: {code.name} {details}"
            assert "UTF-8" in details


async def test_messages_that_are_too_long_or_too_many_are_refused(bystander: None, gateway: RunningRole) -> None:
    ids = ["exec_" + "0" * 32] * 1_001
    for message in (
        pb.ConnectRequest(started=pb.ExecutionsStarted(execution_ids=ids)),
        pb.ConnectRequest(give_back=pb.GiveBack(execution_ids=ids)),
        pb.ConnectRequest(results=pb.TaskResults(results=[pb.TaskResult()] * 1_001)),
    ):
        code, details = await ends(gateway, message.SerializeToString(), registers=True)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "1001" in details
    code, _ = await ends(gateway, b"x" * (4 * 1024 * 1024 + 1), registers=True)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_times_that_do_not_exist_are_refused(bystander: None, gateway: RunningRole) -> None:
    for message in (
        pb.ConnectRequest(log_chunk=pb.TaskLogChunk(emitted_at=Timestamp(seconds=2**62))),
        pb.ConnectRequest(log_chunk=pb.TaskLogChunk(emitted_at=Timestamp(nanos=-1))),
        pb.ConnectRequest(result=pb.TaskResult(retry_after=Duration(seconds=2**62))),
        pb.ConnectRequest(result=pb.TaskResult(retry_after=Duration(seconds=1, nanos=-1))),
    ):
        code, details = await ends(gateway, message.SerializeToString(), registers=True)
        assert code is grpc.StatusCode.INVALID_ARGUMENT, f"{message}: {code.name} {details}"


async def test_what_this_release_does_not_know_is_ignored(gateway: RunningRole) -> None:
    """A later release may say more: other kinds of messages, fields, features, statuses."""
    async with worker(gateway.address) as stream:
        await stream.register(features=[1_000])  # type: ignore[list-item]
        for data in (b"", field(31, b"later"), field(30, b"") + field(31, BAD_UTF8)):
            await stream.send_bytes(data)
        await stream.send(heartbeat=pb.WorkerHeartbeat(status=99))  # type: ignore[arg-type]
        await stream.ack()
        assert (await stream.finish("\0")).outcome == UNKNOWN
        await stream.beat()


async def test_streams_that_come_and_go_leave_nothing_behind(
    bystander: None, gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    chance = random.Random(22)
    before = len(asyncio.all_tasks())
    await jobs.submit_many(20)

    async def come_and_go(number: int) -> None:
        async with worker(gateway.address, f"fickle-{number % 7}") as stream:
            registration = pb.WorkerRegistration(worker_id=stream.worker_id, capabilities=["email"], max_concurrency=3)
            await stream.send(registration=registration)
            for _ in range(chance.randrange(4)):
                await stream.heartbeat()
            if chance.random() < 0.5:
                await stream.done_writing()
            await asyncio.sleep(chance.random() / 50)

    for _ in range(5):
        await asyncio.gather(*(come_and_go(number) for number in range(12)), return_exceptions=True)

    async def nothing_is_left() -> bool:
        streams = metrics.REGISTRY.get_sample_value("dispatchd_streams_open")
        open_rows = await facts.value(
            "select count(*) from worker_sessions where closed_at is null and superseded_at is null "
            "and ended_at is null and worker_id <> 'bystander'"
        )
        return streams == 1 and open_rows == 0 and len(asyncio.all_tasks()) <= before + 2

    await eventually(nothing_is_left, "all streams and their tasks are gone")


async def test_a_fault_of_the_server_is_unavailable_and_tells_no_secrets(
    gateway: RunningRole, facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    await facts.sql("alter table workers rename to hidden")
    async with worker(gateway.address) as stream:
        await stream.send(registration=pb.WorkerRegistration(worker_id="w", capabilities=["email"]))
        code, details = await stream.ended()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "request id" in details
    assert "workers" not in details
    assert "Traceback" not in details
    assert any(record.getMessage() == "a stream failed" for record in caplog.records)
