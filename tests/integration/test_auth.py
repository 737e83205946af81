"""Authentication on a real control-plane: who gets in, who does not, and what the audit log says of both."""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator

import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on
from dispatchd.domain.access import METHODS, AccessRole
from dispatchd.telemetry.logs import LogWriter, configure_logging
from dispatchd.v1 import dispatchd_pb2 as pb
from tokens_for_tests import AUTH, SECRET, bearer

ALLOWED = object()
Metadata = tuple[tuple[str, str], ...] | None


@pytest.fixture
def log() -> Iterator[tuple[LogWriter, io.BytesIO]]:
    """The lines of this process."""
    stream = io.BytesIO()
    level = logging.getLogger().level
    writer = configure_logging("info", "control-plane", "test", "local", stream)
    yield writer, stream
    writer.close()
    logging.captureWarnings(False)
    logging.getLogger().setLevel(level)


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address, AUDIT_LOG_ENABLED="true", **AUTH) as plane:
        yield plane


async def call(plane: ControlPlane, service: str, method: str, data: bytes, metadata: Metadata) -> grpc.StatusCode:
    """The code that an empty or broken request gets: whatever stands behind the door answers INVALID_ARGUMENT or OK."""
    unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = plane.channel.unary_unary(f"/{service}/{method}")
    try:
        await unary(data, timeout=15.0, metadata=metadata)
    except grpc.aio.AioRpcError as exc:
        return exc.code()
    return grpc.StatusCode.OK


def methods_of(*services: str) -> list[tuple[str, str]]:
    return [
        (f"dispatchd.v1.{service}", method)
        for name in METHODS
        for service, method in [name.split(".")]
        if service in services
    ]


async def test_role_by_method_is_the_documented_table(plane: ControlPlane) -> None:
    for service, method in methods_of("JobService", "OperatorService"):
        label = f"{service.rpartition('.')[2]}.{method}"
        for role in AccessRole:
            code = await call(plane, service, method, b"", bearer("someone", role))
            assert (code is not grpc.StatusCode.PERMISSION_DENIED) == (role in METHODS[label]), (label, role)
            assert code is not grpc.StatusCode.UNAUTHENTICATED
        assert await call(plane, service, method, b"", None) is grpc.StatusCode.UNAUTHENTICATED
        assert await call(plane, service, method, b"", bearer("nobody")) is grpc.StatusCode.PERMISSION_DENIED


async def test_a_job_goes_through_with_the_right_token_and_no_job_with_another(plane: ControlPlane) -> None:
    request = pb.SubmitJobRequest(job_type="email.send", payload=b"{}")
    answer = await plane.jobs.SubmitJob(request, timeout=15.0, metadata=bearer("ann", "submitter"))
    job_id = answer.job.job_id
    read = await plane.jobs.GetJob(pb.GetJobRequest(job_id=job_id), timeout=15.0, metadata=bearer("bob", "viewer"))
    assert read.job.job_id == job_id
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.jobs.SubmitJob(request, timeout=15.0, metadata=bearer("bob", "viewer"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "needs one of the roles admin, operator, submitter" in (refused.value.details() or "")


async def test_health_needs_no_token_and_reflection_does(plane: ControlPlane) -> None:
    assert await call(plane, "grpc.health.v1.Health", "Check", b"", None) is grpc.StatusCode.OK
    reflect: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = plane.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    list_services = [b"\x3a\x00"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await anext(aiter(reflect(iter(list_services), timeout=15.0)))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    answers = [answer async for answer in reflect(iter(list_services), timeout=15.0, metadata=bearer("x", "viewer"))]
    assert b"dispatchd.v1.JobService" in answers[0]


async def test_a_stranger_is_refused_before_anything_of_the_call_is_read(plane: ControlPlane) -> None:
    """Its message is never sent, and the answer comes all the same."""
    for service, method in methods_of("JobService", "OperatorService"):
        begun: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = plane.channel.stream_unary(f"/{service}/{method}")
        assert await begun(timeout=15.0).code() is grpc.StatusCode.UNAUTHENTICATED, method
        refused = begun(timeout=15.0, metadata=bearer("nobody"))
        assert await refused.code() is grpc.StatusCode.PERMISSION_DENIED, method


async def test_each_call_and_each_refusal_is_one_audit_line_without_a_secret(
    plane: ControlPlane, log: tuple[LogWriter, io.BytesIO]
) -> None:
    writer, stream = log
    good, other = bearer("ann", "submitter", "viewer"), bearer("bob", "viewer")
    body = pb.SubmitJobRequest(job_type="email.send", payload=b'"pay-load"').SerializeToString()
    submit = ("dispatchd.v1.JobService", "SubmitJob", body)
    damaged = (("authorization", good[0][1][:-4] + "AAAA"),)
    for metadata in (good, other, None, damaged):
        await call(plane, *submit, metadata)
    writer.close()
    text = stream.getvalue().decode()
    lines = [line for line in map(json.loads, text.splitlines()) if line["logger"] == "dispatchd.audit"]
    assert [(line["subject"], line["roles"], line["code"]) for line in lines] == [
        ("ann", ["submitter", "viewer"], "OK"),
        ("bob", ["viewer"], "PERMISSION_DENIED"),
        ("anonymous", [], "UNAUTHENTICATED"),
        ("anonymous", [], "UNAUTHENTICATED"),
    ]
    assert all(line["method"] == "JobService.SubmitJob" and line["peer"] and line["request_id"] for line in lines)
    assert lines[0]["job_id"].startswith("job_")
    for secret in (SECRET, good[0][1].split()[1], other[0][1].split()[1], damaged[0][1].split()[1], "pay-load"):
        assert secret not in text
