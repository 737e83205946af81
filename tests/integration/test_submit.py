"""Submitting over gRPC: what is refused and why, what is filled in, and what comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on, field_at_fault
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.domain import limits
from dispatchd.domain.submission import Submission
from dispatchd.v1 import dispatchd_pb2 as pb
from loop_watching import LoopWatch
from stores import from_now, ids, open_stores, running, sql

MIB = 1024 * 1024

Change = Callable[[pb.SubmitJobRequest], Any]


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


SHRINKING = pb.RetryPolicy(initial_backoff=timedelta(seconds=2), max_backoff=timedelta(seconds=1))


def request(**fields: Any) -> pb.SubmitJobRequest:
    return pb.SubmitJobRequest(job_type="email.send", payload=b"{}", **fields)


def items(*requests: pb.SubmitJobRequest) -> pb.SubmitJobsRequest:
    return pb.SubmitJobsRequest(items=[pb.SubmitJobsItem(request=each) for each in requests])


async def submit_many(plane: ControlPlane, *requests: pb.SubmitJobRequest) -> list[pb.SubmitJobsResult]:
    return list((await plane.jobs.SubmitJobs(items(*requests), timeout=15.0)).results)


def changed(change: Change) -> pb.SubmitJobRequest:
    broken = request()
    change(broken)
    return broken


BROKEN: list[tuple[str, Change]] = [
    ("job_type", lambda r: r.ClearField("job_type")),
    ("job_type", lambda r: setattr(r, "job_type", "a" * 201)),
    ("job_type", lambda r: setattr(r, "job_type", "email send")),
    ("job_type", lambda r: setattr(r, "job_type", ".send")),
    ("job_type", lambda r: setattr(r, "job_type", "é.send")),
    ("payload", lambda r: r.ClearField("payload")),
    ("payload", lambda r: setattr(r, "payload", bytes(2 * MIB + 1))),
    ("priority", lambda r: setattr(r, "priority", -1)),
    ("idempotency_key", lambda r: setattr(r, "idempotency_key", "k" * 513)),
    ("idempotency_key", lambda r: setattr(r, "idempotency_key", "a\0b")),
    ("metadata", lambda r: r.metadata.update({str(n): "" for n in range(65)})),
    ("metadata", lambda r: r.metadata.update({"a": "b" * 16 * 1024})),
    ("metadata", lambda r: r.metadata.update({"a": "\0"})),
    ("retry_policy.max_attempts", lambda r: setattr(r.retry_policy, "max_attempts", 101)),
    ("retry_policy.max_attempts", lambda r: setattr(r.retry_policy, "max_attempts", -1)),
    ("retry_policy.initial_backoff", lambda r: setattr(r.retry_policy.initial_backoff, "seconds", -1)),
    ("retry_policy.initial_backoff", lambda r: setattr(r.retry_policy.initial_backoff, "nanos", 1_000_000_000)),
    ("retry_policy.max_backoff", lambda r: setattr(r.retry_policy.max_backoff, "seconds", 367 * 86_400)),
    ("retry_policy.max_backoff", lambda r: r.retry_policy.CopyFrom(SHRINKING)),
    ("run_at", lambda r: setattr(r.run_at, "nanos", -1)),
    ("run_at", lambda r: setattr(r.run_at, "seconds", 2**62)),
    ("run_at", lambda r: r.run_at.FromDatetime(from_now(days=367))),
    ("timeout", lambda r: r.timeout.SetInParent()),
    ("timeout", lambda r: r.timeout.FromSeconds(-1)),
    ("timeout", lambda r: r.timeout.FromSeconds(367 * 86_400)),
    ("timeout", lambda r: setattr(r.timeout, "seconds", 2**62)),
]


async def test_a_broken_rule_is_answered_with_the_field_and_stores_nothing(
    plane: ControlPlane, database_url: str
) -> None:
    for field, change in BROKEN:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await plane.jobs.SubmitJob(changed(change), timeout=15.0)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, field
        assert field_at_fault(refused.value) == field
        assert (refused.value.details() or "").startswith(f"{field}: ")
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from jobs") == 0


async def test_one_broken_item_never_fails_the_others(plane: ControlPlane, database_url: str) -> None:
    small = [(field, change) for field, change in BROKEN if changed(change).ByteSize() < MIB]
    mixed = [each for _, change in small for each in (changed(change), request())]
    results = await submit_many(plane, *mixed)
    for (field, _), broken in zip(small, results[::2], strict=True):
        assert (broken.error.code, broken.error.field) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], field)
    assert all(good.job.status == pb.JOB_STATUS_PENDING for good in results[1::2])
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from jobs") == len(small)


async def test_what_was_not_sent_is_filled_in(plane: ControlPlane) -> None:
    before = datetime.now(UTC)
    job = await plane.submit()
    assert (job.job_type, job.payload, job.status) == ("email.send", b"{}", pb.JOB_STATUS_PENDING)
    assert (job.priority, job.idempotency_key, dict(job.metadata)) == (0, "", {})
    policy = job.retry_policy
    assert (policy.max_attempts, policy.initial_backoff.seconds, policy.max_backoff.seconds) == (3, 5, 60)
    assert not job.HasField("run_at")
    assert not job.HasField("timeout")
    assert (job.result, job.last_error, job.attempts) == (b"", "", 0)
    created_at = job.created_at.ToDatetime(UTC)
    assert before <= created_at <= datetime.now(UTC)
    assert job.updated_at == job.created_at
    assert await plane.get(job.job_id) == job


async def test_everything_that_was_sent_comes_back(plane: ControlPlane) -> None:
    sent = request(priority=2**31 - 1, idempotency_key="ü" * 256, metadata={"näme": "vält", "": "empty"})
    sent.payload = bytes(range(256))
    sent.retry_policy.max_attempts = 100
    sent.retry_policy.initial_backoff.FromTimedelta(timedelta(0))
    sent.retry_policy.max_backoff.FromTimedelta(timedelta(days=366))
    sent.run_at.FromDatetime(from_now(days=1))
    sent.timeout.FromTimedelta(timedelta(microseconds=1_500_000))
    job = (await plane.jobs.SubmitJob(sent, timeout=15.0)).job
    for name in ("job_type", "payload", "priority", "idempotency_key", "metadata", "retry_policy", "run_at", "timeout"):
        assert getattr(job, name) == getattr(sent, name), name
    assert await plane.get(job.job_id) == job


async def test_a_job_of_the_largest_size_in_every_field_is_stored_and_read_back(plane: ControlPlane) -> None:
    sent = request(idempotency_key="k" * 512, metadata={f"{n:02}": "v" * 254 for n in range(64)})
    sent.job_type = "t" * 200
    sent.payload = bytes(2 * MIB)
    job = (await plane.jobs.SubmitJob(sent, timeout=15.0)).job
    assert await plane.get(job.job_id) == job
    assert job.payload == sent.payload


async def test_a_thousand_items_are_stored_in_their_order_without_what_they_sent(
    plane: ControlPlane, database_url: str, loop_watch: LoopWatch
) -> None:
    results = await submit_many(plane, *(request(metadata={"n": str(n)}) for n in range(1_000)))
    job_ids = [result.job.job_id for result in results]
    assert job_ids == sorted(set(job_ids))
    assert not any(result.job.payload or result.job.metadata or result.job.result for result in results)
    async with sql(database_url) as session:
        stored = await session.fetch(
            "select i.metadata->>'n' as n from executions e join job_inputs i using (job_id) "
            "order by e.due_at, e.execution_id"
        )
    assert [row["n"] for row in stored] == [str(n) for n in range(1_000)]


async def test_jobs_of_one_process_run_in_the_order_in_which_they_came(database_url: str, redis_address: str) -> None:
    async with open_stores(database_url, redis_address) as stores:
        # Past gRPC, which does not keep the order of concurrent calls.
        submit = SubmitJobs(stores.jobs, stores.announcer, stores.region, ids, queue_items=1_000, queue_bytes=MIB)
        async with running(submit.commits.run()):
            submissions = [Submission("email.send", b"{}", metadata={"n": str(n)}) for n in range(200)]
            await asyncio.gather(*(submit.submit(submission) for submission in submissions))
    async with sql(database_url) as session:
        stored = await session.fetch(
            "select i.metadata->>'n' as n from executions e join job_inputs i using (job_id) "
            "order by e.due_at, e.execution_id"
        )
    assert [row["n"] for row in stored] == [str(n) for n in range(200)]


@pytest.mark.parametrize("count", [0, 1_001, 50_000])
async def test_a_call_takes_one_to_a_thousand_items(plane: ControlPlane, count: int, loop_watch: LoopWatch) -> None:
    empty = pb.SubmitJobsRequest(items=[pb.SubmitJobsItem()] * count)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.jobs.SubmitJobs(empty, timeout=15.0)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_at_fault(refused.value) == "items"


async def test_a_call_larger_than_4_mib_is_refused(plane: ControlPlane, database_url: str) -> None:
    large = [pb.SubmitJobRequest(job_type="email", payload=bytes(MIB)) for _ in range(4)]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.jobs.SubmitJobs(items(*large), timeout=15.0)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(await submit_many(plane, *large[:3])) == 3


@pytest.fixture
def crowded_request() -> bytes:
    """A submit with almost half a million entries of metadata."""
    entry = b"\x2a\x07\x0a\x05"
    raw = request().SerializeToString() + b"".join(entry + f"{n:05x}".encode() for n in range(450_000))
    assert len(raw) < limits.REQUEST_BYTES
    return raw


async def test_metadata_of_a_million_entries_is_refused_without_holding_up_the_loop(
    plane: ControlPlane, crowded_request: bytes, loop_watch: LoopWatch
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await plane.raw("dispatchd.v1.JobService", "SubmitJob", crowded_request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_at_fault(refused.value) == "metadata"


async def test_the_trace_of_the_call_or_of_the_item_goes_with_the_job(plane: ControlPlane, database_url: str) -> None:
    of_call, of_item = f"00-{'1' * 32}-{'2' * 16}-01", f"00-{'3' * 32}-{'4' * 16}-01"
    two = pb.SubmitJobsRequest(
        items=[
            pb.SubmitJobsItem(request=request(metadata={"n": "1"})),
            pb.SubmitJobsItem(request=request(metadata={"n": "2"}), traceparent=of_item, tracestate="a=b"),
            pb.SubmitJobsItem(request=request(), traceparent="x" * 513),
            pb.SubmitJobsItem(request=request(), request_id="x" * 201),
        ]
    )
    headers = (("traceparent", of_call), ("tracestate", "c=d"))
    results = (await plane.jobs.SubmitJobs(two, timeout=15.0, metadata=headers)).results
    assert [result.error.field for result in results] == ["", "", "traceparent", "request_id"]
    await plane.jobs.SubmitJob(request(metadata={"n": "3"}), metadata=(("traceparent", "x" * 513),))
    async with sql(database_url) as session:
        stored = await session.fetch("select traceparent, tracestate from job_inputs order by metadata->>'n'")
    assert [tuple(row) for row in stored] == [(of_call, "c=d"), (of_item, "a=b"), (None, None)]


async def test_a_run_at_in_the_past_means_now(plane: ControlPlane, database_url: str) -> None:
    for when in (datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), from_now(seconds=-1)):
        sent = request()
        sent.run_at.FromDatetime(when)
        job = (await plane.jobs.SubmitJob(sent, timeout=15.0)).job
        assert (job.run_at.ToDatetime(UTC), (await plane.get(job.job_id)).run_at) == (when, sent.run_at)
    async with sql(database_url) as session:
        states = await session.fetch("select state, due_at = created_at as now from executions")
    assert [tuple(row) for row in states] == [("queued", True)] * 3


async def test_a_run_at_in_the_future_waits(plane: ControlPlane, database_url: str) -> None:
    sent = request()
    sent.run_at.FromDatetime(from_now(hours=1))
    job = (await plane.jobs.SubmitJob(sent, timeout=15.0)).job
    assert job.status == pb.JOB_STATUS_PENDING
    async with sql(database_url) as session:
        row = await session.fetchrow("select e.state, e.due_at = j.run_at as then from executions e, jobs j")
    assert row is not None
    assert tuple(row) == ("waiting", True)
