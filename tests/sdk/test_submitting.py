"""Submitting through the client: keys, retries, deadlines, bulk, and servers that lack SubmitJobs."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from dispatchd import (
    AsyncClient,
    ClientClosed,
    DeadlineExceeded,
    IdempotencyConflict,
    InvalidRequest,
    Job,
    JobStatus,
    Overloaded,
    RegionPassive,
    Submission,
    Unavailable,
    Worker,
)
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.scripted_control_plane import Held, ScriptedControlPlane, in_turn, refuse, store_all, stored

worker = Worker(worker_id="never started")


@worker.task("report.render", timeout=30, max_attempts=7)
async def render(pages: dict[str, int]) -> int:
    return sum(pages.values())


def item_error(code: grpc.StatusCode, **details: Any) -> v1.SubmitJobsResult:
    return v1.SubmitJobsResult(error=v1.ItemError(code=code.value[0], message=code.name, **details))


async def only_request(peer: ScriptedControlPlane) -> v1.SubmitJobsItem:
    [request] = peer.of_type(v1.SubmitJobsRequest)
    item: v1.SubmitJobsItem
    [item] = request.items
    return item


async def test_a_submitted_job_carries_what_the_answer_leaves_out(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    job = await client.submit("report.render", b"7", metadata={"tenant": "a"}, priority=3)
    assert (job.job_id, job.payload, job.metadata) == (f"job_{7:032x}", b"7", {"tenant": "a"})
    assert (job.status, job.priority, job.result, job.ended) == (JobStatus.PENDING, 3, None, False)


async def test_every_field_arrives(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    run_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    await client.submit(
        "report.render",
        b"1",
        priority=9,
        idempotency_key="key",
        metadata={"a": "b"},
        max_attempts=5,
        initial_backoff=0.5,
        max_backoff=timedelta(minutes=1),
        run_at=run_at,
        timeout=90,
        traceparent="00-1",
        tracestate="x=y",
        request_id="r1",
    )
    item = await only_request(control_plane)
    request = item.request
    assert (item.traceparent, item.tracestate, item.request_id) == ("00-1", "x=y", "r1")
    assert (request.priority, request.idempotency_key, dict(request.metadata)) == (9, "key", {"a": "b"})
    assert request.retry_policy.max_attempts == 5
    assert request.retry_policy.initial_backoff.ToTimedelta() == timedelta(seconds=0.5)
    assert request.retry_policy.max_backoff.ToTimedelta() == timedelta(minutes=1)
    assert request.run_at.ToDatetime(tzinfo=UTC) == run_at
    assert request.timeout.ToTimedelta() == timedelta(seconds=90)


async def test_a_task_brings_its_defaults_and_its_types(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def store(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        return v1.SubmitJobsResponse(results=[v1.SubmitJobsResult(job=stored(request.items[0].request))])

    control_plane.answers["SubmitJobs"] = store
    await client.submit(render, {"a": 1})
    await client.submit(render, {"a": 1}, timeout=5, max_attempts=2)
    first, second = (request.items[0].request for request in control_plane.of_type(v1.SubmitJobsRequest))
    assert (first.job_type, first.payload) == ("report.render", b'{"a":1}')
    assert (first.timeout.seconds, first.retry_policy.max_attempts) == (30, 7)
    assert (second.timeout.seconds, second.retry_policy.max_attempts) == (5, 2)


async def test_unset_fields_stay_unset(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    await client.submit("report.render", b"1")
    request = (await only_request(control_plane)).request
    assert not any(request.HasField(name) for name in ("run_at", "timeout", "retry_policy"))


async def test_a_key_is_made_for_every_submit(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    jobs = [await client.submit("report.render", b"1") for _ in range(2)]
    keys = {job.idempotency_key for job in jobs}
    assert len(keys) == 2
    assert all(keys)


async def test_an_unavailable_server_is_tried_again_with_the_same_key(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = in_turn(refuse(grpc.StatusCode.UNAVAILABLE, "stopping"), store_all)
    await client.submit("report.render", b"1")
    keys = {request.items[0].request.idempotency_key for request in control_plane.of_type(v1.SubmitJobsRequest)}
    assert (len(control_plane.requests), len(keys)) == (2, 1)


async def test_only_the_unavailable_item_of_a_call_is_sent_again(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def second_is_unavailable(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        answer = await store_all(request, context)
        answer.results[1].CopyFrom(item_error(grpc.StatusCode.UNAVAILABLE))
        return answer

    control_plane.answers["SubmitJobs"] = in_turn(second_is_unavailable, store_all)
    jobs = await asyncio.gather(client.submit("report.a", b"1"), client.submit("report.b", b"2"))
    sent = [
        [item.request.job_type for item in request.items] for request in control_plane.of_type(v1.SubmitJobsRequest)
    ]
    assert sent == [["report.a", "report.b"], ["report.b"]]
    assert [job.job_type for job in jobs] == ["report.a", "report.b"]


async def test_a_server_that_stays_unavailable_is_an_error_within_the_callers_time(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = refuse(grpc.StatusCode.UNAVAILABLE, "the database is away")
    with pytest.raises(Unavailable, match="the database is away"):
        await client.submit("report.render", b"1", call_timeout=1)


async def test_no_server_at_all_is_unavailable() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await client.submit("report.render", b"1", call_timeout=1)


async def test_a_retry_delay_beyond_the_deadline_is_not_waited_for(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = refuse(grpc.StatusCode.UNAVAILABLE, "away", retry_after_s=60)
    with pytest.raises(Unavailable) as caught:
        await client.submit("report.render", b"1", call_timeout=10)
    assert caught.value.retry_after == timedelta(seconds=60)
    assert len(control_plane.requests) == 1


async def test_a_caller_whose_deadline_comes_first_leaves_the_others_in_the_call(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    held = Held(store_all)
    control_plane.answers["SubmitJobs"] = held
    hasty = asyncio.create_task(client.submit("report.a", b"1", call_timeout=0.2))
    patient = asyncio.create_task(client.submit("report.b", b"2", call_timeout=30))
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        await hasty
    assert len(control_plane.of_type(v1.SubmitJobsRequest)[0].items) == 2
    held.let_go()
    assert (await patient).job_type == "report.b"


async def test_a_caller_whose_deadline_comes_before_its_call_leaves_is_not_sent(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    held = Held(store_all)
    control_plane.answers["SubmitJobs"] = in_turn(held, store_all)
    first = asyncio.create_task(client.submit("report.first", b"1"))
    await held.arrived.wait()
    hasty = asyncio.create_task(client.submit("report.hasty", b"2", call_timeout=0.1))
    patient = asyncio.create_task(client.submit("report.patient", b"3"))
    with pytest.raises(DeadlineExceeded):
        await hasty
    held.let_go()
    await asyncio.gather(first, patient)
    sent = [
        [item.request.job_type for item in request.items] for request in control_plane.of_type(v1.SubmitJobsRequest)
    ]
    assert sent == [["report.first"], ["report.patient"]]


async def test_calls_with_other_call_metadata_do_not_travel_together(
    control_plane: ScriptedControlPlane,
) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    async with AsyncClient(control_plane.target, call_metadata={"Authorization": "mine", "x-a": "1"}) as client:
        await asyncio.gather(
            client.submit("report.a", b"1"),
            client.submit("report.b", b"1", call_metadata={"authorization": "yours"}),
            client.submit("report.c", b"1"),
        )
    sent = sorted(
        (headers["authorization"], [item.request.job_type for item in request.items])
        for headers, request in zip(control_plane.headers, control_plane.requests, strict=True)
    )
    assert sent == [("mine", ["report.a", "report.c"]), ("yours", ["report.b"])]


async def test_an_old_server_gets_submit_job_and_is_asked_only_once(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def store(request: v1.SubmitJobRequest, context: Any) -> v1.SubmitJobResponse:
        return v1.SubmitJobResponse(job=stored(request))

    control_plane.answers["SubmitJob"] = store
    await asyncio.gather(*(client.submit(f"report.{name}", b"1", traceparent=f"00-{name}") for name in "ab"))
    await client.submit("report.c", b"1", request_id="r1")
    assert len(control_plane.of_type(v1.SubmitJobsRequest)) == 1
    sent = [
        (request.job_type, headers.get("traceparent"), headers.get("x-request-id"))
        for headers, request in zip(control_plane.headers, control_plane.requests, strict=True)
        if isinstance(request, v1.SubmitJobRequest)
    ]
    assert sorted(sent[:2]) == [("report.a", "00-a", None), ("report.b", "00-b", None)]
    assert sent[2] == ("report.c", None, "r1")


async def test_an_old_server_that_is_unavailable_is_tried_again_with_the_same_key(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def store(request: v1.SubmitJobRequest, context: Any) -> v1.SubmitJobResponse:
        return v1.SubmitJobResponse(job=stored(request))

    control_plane.answers["SubmitJob"] = in_turn(refuse(grpc.StatusCode.UNAVAILABLE, "stopping"), store)
    await client.submit("report.a", b"1")
    keys = {request.idempotency_key for request in control_plane.of_type(v1.SubmitJobRequest)}
    assert (len(control_plane.of_type(v1.SubmitJobRequest)), len(keys)) == (2, 1)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, IdempotencyConflict),
        (grpc.StatusCode.FAILED_PRECONDITION, RegionPassive),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
    ],
)
async def test_an_items_refusal_is_the_callers_error(
    control_plane: ScriptedControlPlane, client: AsyncClient, code: grpc.StatusCode, error: type[Exception]
) -> None:
    async def refuse_all(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        return v1.SubmitJobsResponse(results=[item_error(code) for _ in request.items])

    control_plane.answers["SubmitJobs"] = refuse_all
    with pytest.raises(error, match=code.name):
        await client.submit("report.render", b"1")


async def test_an_items_error_names_its_field_and_its_delay(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def refuse_both(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        full = item_error(grpc.StatusCode.RESOURCE_EXHAUSTED)
        full.error.retry_delay.FromSeconds(3)
        return v1.SubmitJobsResponse(results=[item_error(grpc.StatusCode.INVALID_ARGUMENT, field="priority"), full])

    control_plane.answers["SubmitJobs"] = refuse_both
    bad, full = await asyncio.gather(
        client.submit("report.a", b"1"), client.submit("report.b", b"1"), return_exceptions=True
    )
    assert isinstance(bad, InvalidRequest)
    assert bad.field == "priority"
    assert isinstance(full, Overloaded)
    assert full.retry_after == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),  # noqa: DTZ001 - without a time zone on purpose
        ({"timeout": -1}, "timeout"),
        ({"initial_backoff": float("nan")}, "initial_backoff"),
        ({"priority": "high"}, None),
        ({"metadata": {"a": 1}}, None),
        ({"idempotency_key": "\ud800"}, None),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_call(
    control_plane: ScriptedControlPlane, client: AsyncClient, options: Any, field: str | None
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.submit("report.render", b"1", **options)
    assert caught.value.field == field
    assert control_plane.requests == []


@pytest.mark.parametrize("payload", [bytes(2 * 1024 * 1024 + 1), object(), float])
async def test_a_payload_that_cannot_be_sent_is_refused_before_the_call(
    control_plane: ScriptedControlPlane, client: AsyncClient, payload: Any
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await client.submit("report.render", payload)
    assert caught.value.field == "payload"
    assert control_plane.requests == []


async def test_submit_many_splits_by_count_and_size_and_keeps_the_order(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = store_all
    payloads = [str(number).encode() for number in range(1_500)] + [
        b"%0300000d" % number for number in range(1_500, 1_507)
    ]
    jobs = await client.submit_many(Submission(job_type="report.a", payload=payload) for payload in payloads)
    assert [int(job.job_id[4:], 16) for job in jobs if isinstance(job, Job)] == list(range(1_507))
    sizes = [(len(request.items), request.ByteSize()) for request in control_plane.of_type(v1.SubmitJobsRequest)]
    assert [count for count, _ in sizes] == [1_000, 503, 3, 1]
    assert all(size_bytes <= 1024 * 1024 for _, size_bytes in sizes)


async def test_submit_many_answers_bad_items_with_their_error_and_stores_the_others(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def second_is_bad(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        answer = await store_all(request, context)
        answer.results[1].CopyFrom(item_error(grpc.StatusCode.INVALID_ARGUMENT, field="job_type"))
        return answer

    control_plane.answers["SubmitJobs"] = second_is_bad
    answers = await client.submit_many(
        [
            Submission(job_type="report.a", payload=b"1"),
            Submission(job_type="report.b", payload=object()),
            Submission(job_type="", payload=b"2"),
            Submission(job_type="report.c", payload=b"3"),
        ]
    )
    assert [type(answer) for answer in answers] == [Job, InvalidRequest, InvalidRequest, Job]
    assert [answer.field for answer in answers if isinstance(answer, InvalidRequest)] == ["payload", "job_type"]


async def test_submit_many_repeats_only_what_was_unavailable(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def half(request: v1.SubmitJobsRequest, context: Any) -> v1.SubmitJobsResponse:
        answer = await store_all(request, context)
        for result in answer.results[::2]:
            result.CopyFrom(item_error(grpc.StatusCode.UNAVAILABLE))
        return answer

    control_plane.answers["SubmitJobs"] = in_turn(half, store_all)
    answers = await client.submit_many(Submission(job_type="report.a", payload=b"%d" % n) for n in range(4))
    assert [int(answer.job_id[4:]) for answer in answers if isinstance(answer, Job)] == [0, 1, 2, 3]
    first, second = control_plane.of_type(v1.SubmitJobsRequest)
    assert [item.request.idempotency_key for item in second.items] == [
        item.request.idempotency_key for item in first.items[::2]
    ]


async def test_submit_many_sends_nothing_more_once_a_call_could_not_be_completed(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["SubmitJobs"] = in_turn(store_all, refuse(grpc.StatusCode.UNAUTHENTICATED, "expired"))
    answers = await client.submit_many(Submission(job_type="report.a", payload=b"1") for _ in range(3_500))
    assert len(control_plane.requests) == 2
    assert len(answers) == 3_500
    assert all(isinstance(answer, Job) for answer in answers[:1_000])
    assert {str(answer) for answer in answers[1_000:]} == {"expired"}


async def test_submit_many_to_an_old_server_submits_one_by_one(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def store(request: v1.SubmitJobRequest, context: Any) -> v1.SubmitJobResponse:
        if request.payload == b"2":
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "another request")
        return v1.SubmitJobResponse(job=stored(request, int(request.payload)))

    control_plane.answers["SubmitJob"] = store
    answers = await client.submit_many(Submission(job_type="report.a", payload=b"%d" % n) for n in range(100))
    assert isinstance(answers.pop(2), IdempotencyConflict)
    assert [int(answer.job_id[4:], 16) for answer in answers if isinstance(answer, Job)] == [0, 1, *range(3, 100)]


async def test_leaving_the_client_ends_submits_in_flight(control_plane: ScriptedControlPlane) -> None:
    held = Held(store_all)
    control_plane.answers["SubmitJobs"] = held
    async with AsyncClient(control_plane.target) as client:
        job = asyncio.create_task(client.submit("report.a", b"1"))
        await held.arrived.wait()
    with pytest.raises(ClientClosed):
        await job
    with pytest.raises(ClientClosed, match="async with"):
        await client.submit("report.a", b"1")


async def test_an_error_inside_the_client_block_comes_out_as_it_is(control_plane: ScriptedControlPlane) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with AsyncClient(control_plane.target):
            raise LookupError("mine")
