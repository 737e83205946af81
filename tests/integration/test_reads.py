"""What clients read: a job in every state, its executions in pages, and nothing larger than an answer may be."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on, field_at_fault
from dispatchd.application.page_token import read_token, write_token
from dispatchd.application.ports import Renewal
from dispatchd.domain import limits
from dispatchd.domain.ids import parse_job_id
from dispatchd.domain.settlement import Ending, Failed, LeaseLost, Returned, Succeeded, TimedOut
from dispatchd.domain.worker import WorkerStatus
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import FENCE, LEASE, Hands, Stores, ids, make_due, open_stores, register, sql

MIB = 1024 * 1024


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def hands(stores: Stores) -> Hands:
    return await register(stores)


async def page(plane: ControlPlane, job_id: str, size: int = 0, token: str = "") -> pb.ListExecutionsResponse:
    request = pb.ListExecutionsRequest(job_id=job_id, page_size=size, page_token=token)
    return await plane.jobs.ListExecutions(request, timeout=15.0)


async def test_a_job_is_read_in_every_state_it_goes_through(plane: ControlPlane, stores: Stores, hands: Hands) -> None:
    job_id = (await plane.submit()).job_id
    seen = [await plane.get(job_id)]

    async def look() -> pb.Job:
        seen.append(await plane.get(job_id))
        return seen[-1]

    first = await hands.claim_one()
    job = await look()
    assert (job.status, job.attempts) == (pb.JOB_STATUS_DISPATCHING, 1)
    started = Renewal(hands.session_id, "worker-1", WorkerStatus.READY, {first.execution_id: timedelta(milliseconds=1)})
    await stores.sessions.renew([started], LEASE, FENCE)
    job = await look()
    assert (job.status, job.attempts) == (pb.JOB_STATUS_RUNNING, 1)
    await hands.end(Failed("first failure", "OSError"), first.execution_id)
    job = await look()
    assert (job.status, job.attempts, job.last_error) == (pb.JOB_STATUS_PENDING, 1, "first failure")
    await make_due(stores)
    second = await hands.claim_one()
    await hands.end(Returned(was_sent=True, error_message="given back"), second.execution_id)
    job = await look()
    assert (job.status, job.attempts, job.last_error) == (pb.JOB_STATUS_PENDING, 1, "first failure")
    third = await hands.claim_one()
    await hands.end(Succeeded(b"\0\xff", {"host": "a"}), third.execution_id)
    job = await look()
    assert (job.status, job.attempts, job.result) == (pb.JOB_STATUS_SUCCEEDED, 2, b"\0\xff")
    assert job.last_error == "first failure"
    times = [each.updated_at.ToDatetime(UTC) for each in seen]
    assert times == sorted(set(times))
    assert {each.created_at.ToDatetime(UTC) for each in seen} == {times[0]}


async def test_the_executions_of_a_job_tell_its_story(plane: ControlPlane, stores: Stores, hands: Hands) -> None:
    job_id = (await plane.submit(retry_policy=pb.RetryPolicy(max_attempts=4))).job_id
    endings: list[Ending] = [
        Failed("no", "OSError", metadata={"a": "b"}),
        LeaseLost("lost"),
        Returned(was_sent=True, error_message="given back"),
        TimedOut("late"),
        Failed("the last"),
    ]
    for ending in endings:
        await hands.end(ending, (await hands.claim_one()).execution_id)
        await make_due(stores)
    listed = (await page(plane, job_id)).executions
    dead = pb.EXECUTION_STATUS_DEAD_LETTERED
    failed = pb.EXECUTION_STATUS_FAILED
    assert [(e.attempt, e.status, e.end_reason, e.error_message) for e in listed] == [
        (1, failed, pb.EXECUTION_END_REASON_FAILED, "no"),
        (2, failed, pb.EXECUTION_END_REASON_LEASE_LOST, "lost"),
        (3, failed, pb.EXECUTION_END_REASON_RETURNED, "given back"),
        (3, failed, pb.EXECUTION_END_REASON_TIMED_OUT, "late"),
        (4, dead, pb.EXECUTION_END_REASON_FAILED, "the last"),
    ]
    first = listed[0]
    assert (first.error_type, dict(first.metadata), first.worker_id) == ("OSError", {"a": "b"}, "worker-1")
    for each in listed:
        assert each.job_id == job_id
        assert each.started_at == each.claimed_at
        assert each.claimed_at.ToDatetime() < each.finished_at.ToDatetime()
    assert (await plane.get(job_id)).attempts == 4


async def test_a_waiting_execution_has_no_worker_and_no_times(plane: ControlPlane) -> None:
    job_id = (await plane.submit()).job_id
    [waiting] = (await page(plane, job_id)).executions
    assert waiting.status == pb.EXECUTION_STATUS_QUEUED
    assert waiting.worker_id == ""
    assert not any(waiting.HasField(name) for name in ("claimed_at", "started_at", "finished_at"))


async def test_a_job_that_was_canceled_before_anybody_took_it_was_never_attempted(
    plane: ControlPlane, hands: Hands
) -> None:
    untouched, begun = await plane.submit(), await plane.submit()
    await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=untouched.job_id))
    await hands.claim_one()
    await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=begun.job_id))
    assert (await plane.get(untouched.job_id)).attempts == 0
    assert (await plane.get(begun.job_id)).attempts == 1


async def test_unknown_jobs_and_damaged_ids_are_told_apart(plane: ControlPlane) -> None:
    unknown = f"job_{ids.job_id().hex}"
    calls: list[tuple[Any, Any]] = [
        (plane.jobs.GetJob, pb.GetJobRequest),
        (plane.jobs.WaitJob, pb.WaitJobRequest),
        (plane.jobs.CancelJob, pb.CancelJobRequest),
        (plane.jobs.ListExecutions, pb.ListExecutionsRequest),
    ]
    for call, kind in calls:
        with pytest.raises(grpc.aio.AioRpcError, match=unknown) as missing:
            await call(kind(job_id=unknown), timeout=5.0)
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
        for damaged in ("", unknown[:-1], unknown.upper(), "job_" + "g" * 32):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(kind(job_id=damaged), timeout=5.0)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert field_at_fault(refused.value) == "job_id"


# --- pages ----------------------------------------------------------------------------------------------------------


async def insert_executions(database_url: str, job_id: str, count: int, *, error_bytes: int, entries: int = 0) -> None:
    """Ended executions as they would stand after many deliveries."""
    metadata = "{" + ", ".join(f'"{n:02}": ""' for n in range(entries)) + "}"
    async with sql(database_url) as session:
        await session.execute(
            "insert into executions (execution_id, job_id, attempt, delivery, capability, priority, state, due_at, "
            "finished_at, end_reason, error_message, result_metadata) "
            "select gen_random_uuid(), $1, 1, n, 'email', 0, 'failed', now(), now(), 'returned', repeat('é', $3), "
            "$4::jsonb from generate_series(2, $2) n",
            parse_job_id(job_id),
            count,
            error_bytes // 2,
            metadata if entries else None,
        )


async def test_pages_hold_every_execution_once_and_the_last_has_no_token(
    plane: ControlPlane, database_url: str
) -> None:
    job_id = (await plane.submit()).job_id
    await insert_executions(database_url, job_id, 250, error_bytes=2)
    for size, sizes in ((0, [100, 100, 50]), (125, [125, 125]), (249, [249, 1]), (250, [250]), (1_000, [250])):
        found, token = [], ""
        pages = []
        while True:
            answer = await page(plane, job_id, size, token)
            pages.append(len(answer.executions))
            found += [each.execution_id for each in answer.executions]
            token = answer.next_page_token
            if not token:
                break
        assert pages == sizes
        assert len(set(found)) == 250


@pytest.mark.parametrize("size", [-1, 1_001, 2**31 - 1])
async def test_a_page_size_past_its_bounds_is_refused(plane: ControlPlane, size: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await page(plane, (await plane.submit()).job_id, size)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_at_fault(refused.value) == "page_size"


async def test_a_token_that_is_not_of_this_list_is_refused(plane: ControlPlane, database_url: str) -> None:
    job_id, other = [(await plane.submit()).job_id for _ in range(2)]
    for each in (job_id, other):
        await insert_executions(database_url, each, 3, error_bytes=2)
    good = (await page(plane, job_id, 1)).next_page_token
    foreign = (await page(plane, other, 1)).next_page_token
    scope = f"executions:{parse_job_id(job_id).hex}"
    raw = base64.urlsafe_b64decode(good)
    flipped = [raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :] for n in range(len(raw))]
    forged = [
        write_token(scope),
        write_token(scope, ""),
        write_token(scope, "1", "2"),
        write_token(scope, "one"),
        write_token(scope, "-1"),
        write_token(scope, str(2**31)),
        write_token(scope, "9" * 5_000),
        write_token("workers", "1"),
        write_token("dead_letters:", "2030-01-01T00:00:00+00:00", job_id),
    ]
    tampered = [base64.urlsafe_b64encode(each).decode() for each in flipped]
    damaged = ["a", "é", "====", good[:-4], good + "AAAA", "\0", good.replace("=", "") + "!", " " + good, "A" * 10_000]
    for token in (foreign, *forged, *tampered, *damaged):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await page(plane, job_id, 1, token)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, token
        assert field_at_fault(refused.value) == "page_token"
    assert read_token(good, scope, int) == 1
    # The tokens of the other lists are checked in the same way.
    for token in (good, *forged[:7], write_token("dead_letters:", "no time", job_id), write_token("dead_letters:", "")):
        for call in (
            plane.operators.ListDeadLetters(pb.ListDeadLettersRequest(page_token=token)),
            plane.operators.ListWorkers(pb.ListWorkersRequest(page_token=token)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, token


@pytest.mark.parametrize(("error_bytes", "entries"), [(16 * 1024, 0), (3_950, 64)])
async def test_a_page_of_large_executions_is_cut_to_what_an_answer_may_be(
    plane: ControlPlane, database_url: str, error_bytes: int, entries: int
) -> None:
    job_id = (await plane.submit()).job_id
    await insert_executions(database_url, job_id, 1_000, error_bytes=error_bytes, entries=entries)
    found, token, first = 0, "", True
    while token or first:
        answer = await page(plane, job_id, 1_000, token)
        assert answer.ByteSize() <= limits.ANSWER_BYTES
        if answer.next_page_token:
            # It is cut, but not smaller than it need be.
            assert answer.ByteSize() > limits.ANSWER_BYTES * 0.85
        found += len(answer.executions)
        token, first = answer.next_page_token, False
    assert found == 1_000


async def test_a_job_with_everything_at_its_largest_is_one_answer(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    sent = pb.SubmitJobRequest(job_type="email", payload=bytes(2 * MIB), idempotency_key="k" * 512)
    sent.metadata.update({f"{n:02}": "v" * 254 for n in range(64)})
    job_id = (await plane.jobs.SubmitJob(sent, timeout=15.0)).job.job_id
    await hands.end(Failed("é" * (8 * 1024)), (await hands.claim_one()).execution_id)
    await make_due(stores)
    await hands.end(Succeeded(bytes(MIB)), (await hands.claim_one()).execution_id)
    answer = await plane.jobs.GetJob(pb.GetJobRequest(job_id=job_id), timeout=15.0)
    assert (len(answer.job.payload), len(answer.job.result), len(answer.job.last_error)) == (2 * MIB, MIB, 8 * 1024)
    assert answer.ByteSize() <= limits.ANSWER_BYTES
