"""Any bytes on every method of the control-plane: the right status, never INTERNAL or UNKNOWN, no dead process."""

import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from control_planes import ControlPlane, control_plane_on
from dispatchd.adapters.grpc import job_service, operator_service
from dispatchd.v1 import dispatchd_pb2 as pb
from fuzz.wire import delimited, varint
from stores import ids, sql

ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
}
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
BLOBS_OF_EACH = 60

METHODS: list[tuple[str, str, type[Message]]] = [
    (job_service.NAME, "SubmitJob", pb.SubmitJobRequest),
    (job_service.NAME, "SubmitJobs", pb.SubmitJobsRequest),
    (job_service.NAME, "GetJob", pb.GetJobRequest),
    (job_service.NAME, "WaitJob", pb.WaitJobRequest),
    (job_service.NAME, "CancelJob", pb.CancelJobRequest),
    (job_service.NAME, "ListExecutions", pb.ListExecutionsRequest),
    (operator_service.NAME, "ListDeadLetters", pb.ListDeadLettersRequest),
    (operator_service.NAME, "RedriveDeadLetters", pb.RedriveDeadLettersRequest),
    (operator_service.NAME, "ListWorkers", pb.ListWorkersRequest),
    (operator_service.NAME, "ListQueues", pb.ListQueuesRequest),
    (HEALTH, "Check", health_pb2.HealthCheckRequest),
]


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


def full(kind: type[Message], chance: random.Random) -> Message:
    """A message with something in every field, as a client might send it."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        _fill(message, field, chance)
    return message


def _fill(message: Message, field: Any, chance: random.Random) -> None:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name)["key"] = "value"
    elif field.message_type is not None:
        target = getattr(message, name).add() if field.is_repeated else getattr(message, name)
        for inner in field.message_type.fields:
            _fill(target, inner, chance)
    else:
        value = _value(field, chance)
        if field.is_repeated:
            getattr(message, name).append(value)
        else:
            setattr(message, name, value)


def _value(field: Any, chance: random.Random) -> object:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            if field.name in ("job_id", "job_ids"):
                return f"job_{ids.job_id().hex}"
            return {"job_type": "email.send", "page_token": "", "service": ""}.get(field.name, "text")
        case FieldDescriptor.TYPE_BYTES:
            return b"{}"
        case FieldDescriptor.TYPE_BOOL:
            return True
        case _:
            return chance.randrange(3)


def blobs(kind: type[Message], chance: random.Random) -> Iterator[bytes]:
    """Noise, and messages that are damaged in the ways that matter."""
    yield b""
    yield from (chance.randbytes(chance.choice([1, 2, 3, 7, 40, 400])) for _ in range(BLOBS_OF_EACH))
    good = full(kind, chance).SerializeToString()
    yield good
    for _ in range(BLOBS_OF_EACH if good else 0):
        damaged = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        yield bytes(damaged[: chance.randrange(len(damaged) + 1)] if chance.random() < 0.3 else damaged)
    yield from _hostile(kind)


def _hostile(kind: type[Message]) -> Iterator[bytes]:
    for field in kind().DESCRIPTOR.fields:
        for raw in (b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"a\0b", "é".encode() * 300):
            yield delimited(field.number, raw)
        for number in (2**64 - 1, 2**63, 2**31, 2**32 - 1, 99):
            yield varint(field.number << 3) + varint(number)
    yield varint(99 << 3 | 3) * 200
    yield varint(1 << 3 | 3)
    yield varint(2**32 - 1) + b"\x01"
    yield b"\x80" * 30
    yield delimited(1, b"x")[:-1]
    nested = b""
    for _ in range(2_000):
        nested = delimited(1, nested)
    yield nested


async def status_of(plane: ControlPlane, service: str, method: str, request: bytes) -> grpc.StatusCode:
    try:
        await plane.raw(service, method, request, timeout_s=3.0)
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    return grpc.StatusCode.OK


async def test_any_bytes_on_any_method_are_answered_with_what_is_wrong(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatchd.application.wait_job.LONGEST_WAIT", timedelta(0))
    for service, method, kind in METHODS:
        seen = set()
        for blob in blobs(kind, random.Random(method)):
            code = await status_of(plane, service, method, blob)
            assert code in ANSWERS, f"{method} answered {code.name} to {blob[:200]!r}"
            seen.add(code)
        assert grpc.StatusCode.INVALID_ARGUMENT in seen
    assert (await plane.submit()).status == pb.JOB_STATUS_PENDING


async def test_a_list_is_there_for_every_method(plane: ControlPlane) -> None:
    services = [pb.DESCRIPTOR.services_by_name[name] for name in ("JobService", "OperatorService")]
    expected = {method.name for service in services for method in service.methods}
    assert {method for service, method, _ in METHODS if service != HEALTH} == expected


async def test_a_string_that_is_no_utf8_is_refused_in_every_field(plane: ControlPlane, database_url: str) -> None:
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"):
        raw = pb.SubmitJobRequest(payload=b"{}").SerializeToString()
        for number in (1, 4):
            code = await status_of(plane, job_service.NAME, "SubmitJob", raw + delimited(number, bad))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        entry = delimited(5, delimited(1, bad) + delimited(2, b"v"))
        code = await status_of(plane, job_service.NAME, "SubmitJob", raw + delimited(1, b"email") + entry)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from jobs") == 0


async def test_fields_and_enum_values_of_a_later_release_are_passed_over(plane: ControlPlane) -> None:
    raw = pb.SubmitJobRequest(job_type="email", payload=b"{}").SerializeToString()
    later = delimited(99, b"something new") + varint(98 << 3) + varint(2**40)
    answer = pb.SubmitJobResponse.FromString(await plane.raw(job_service.NAME, "SubmitJob", raw + later))
    assert answer.job.status == pb.JOB_STATUS_PENDING


# --- health and reflection ------------------------------------------------------------------------------------------


async def test_health_tells_each_service_and_takes_any_bytes(plane: ControlPlane) -> None:
    for service, state in (
        ("", "SERVING"),
        (job_service.NAME, "SERVING"),
        (operator_service.NAME, "SERVING"),
    ):
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        answer = health_pb2.HealthCheckResponse.FromString(await plane.raw(HEALTH, "Check", request))
        assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == state
    unknown = health_pb2.HealthCheckRequest(service="nobody").SerializeToString()
    assert await status_of(plane, HEALTH, "Check", unknown) is grpc.StatusCode.NOT_FOUND
    watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = plane.channel.unary_stream(f"/{HEALTH}/Watch")
    for blob in blobs(health_pb2.HealthCheckRequest, random.Random(1)):
        stream = watch(blob, timeout=3.0)
        try:
            first = await stream.read()
        except grpc.aio.AioRpcError as exc:
            code = exc.code()
        else:
            assert isinstance(first, bytes)
            assert health_pb2.HealthCheckResponse.FromString(first).status in (1, 3)
            stream.cancel()
            continue
        assert code is grpc.StatusCode.INVALID_ARGUMENT, blob


async def reflect(plane: ControlPlane, requests: Sequence[bytes]) -> "list[bytes] | grpc.StatusCode":
    info: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = plane.channel.stream_stream(
        f"/{REFLECTION}/ServerReflectionInfo"
    )
    stream = info(iter(requests), timeout=5.0)
    try:
        return [answer async for answer in stream]
    except grpc.aio.AioRpcError as exc:
        return exc.code()


async def test_reflection_knows_the_services_and_takes_any_bytes(plane: ControlPlane) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    answers = await reflect(
        plane,
        [
            ask(list_services="").SerializeToString(),
            ask(file_containing_symbol="dispatchd.v1.JobService").SerializeToString(),
            ask(file_by_filename="nothing.proto").SerializeToString(),
        ],
    )
    assert isinstance(answers, list)
    services, file, nothing = [reflection_pb2.ServerReflectionResponse.FromString(answer) for answer in answers]
    names = {service.name for service in services.list_services_response.service}
    assert names == {job_service.NAME, operator_service.NAME, HEALTH, REFLECTION}
    assert file.file_descriptor_response.file_descriptor_proto
    assert nothing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    for blob in blobs(reflection_pb2.ServerReflectionRequest, random.Random(2)):
        answer = await reflect(plane, [blob])
        assert isinstance(answer, list) or answer is grpc.StatusCode.INVALID_ARGUMENT, (answer, blob[:200])


def test_the_noise_is_the_same_every_time() -> None:
    def first(make: Callable[[], Iterator[bytes]]) -> list[bytes]:
        return [blob for blob, _ in zip(make(), range(20), strict=False)]

    assert first(lambda: blobs(pb.GetJobRequest, random.Random(3))) == first(
        lambda: blobs(pb.GetJobRequest, random.Random(3))
    )
