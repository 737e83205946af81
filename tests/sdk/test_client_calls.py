"""Reading, awaiting and canceling jobs, the operator's calls, and the client without an event loop."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from dispatchd import (
    AsyncClient,
    Client,
    ClientClosed,
    DeadlineExceeded,
    ExecutionEndReason,
    ExecutionStatus,
    InvalidRequest,
    Job,
    JobCanceled,
    JobFailed,
    JobNotFound,
    JobStatus,
    NotDeadLetter,
    Overloaded,
    ResultMismatch,
    Submission,
    Unavailable,
    Worker,
    WorkerStatus,
)
from dispatchd.sdk.client import waiting
from dispatchd.sdk.loop_thread import LoopThread
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.scripted_control_plane import Held, ScriptedControlPlane, in_turn, refuse, scripted_control_plane, store_all

worker = Worker(worker_id="never started")


@worker.task("report.render")
async def render(pages: dict[str, int]) -> list[int]:
    return list(pages.values())


def job(status: int, **fields: Any) -> v1.Job:
    return v1.Job(job_id="job_1", job_type="report.render", status=status, **fields)  # type: ignore[arg-type]


def answer_wait(*jobs: v1.Job) -> Any:
    async def give(each: v1.Job) -> v1.WaitJobResponse:
        return v1.WaitJobResponse(job=each)

    return in_turn(*(lambda request, context, each=each: give(each) for each in jobs))


async def test_a_job_is_read_with_aware_times_and_its_result(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def get(request: v1.GetJobRequest, context: Any) -> v1.GetJobResponse:
        full = job(v1.JOB_STATUS_SUCCEEDED, payload=b"in", result=b"out", attempts=2, metadata={"a": "b"})
        full.created_at.FromDatetime(datetime(2030, 1, 1, tzinfo=UTC))
        full.timeout.FromSeconds(9)
        full.retry_policy.max_attempts = 3
        full.retry_policy.initial_backoff.FromSeconds(5)
        return v1.GetJobResponse(job=full)

    control_plane.answers["GetJob"] = get
    read = await client.get("job_1")
    assert (read.status, read.ended, read.payload, read.result) == (JobStatus.SUCCEEDED, True, b"in", b"out")
    assert (read.created_at, read.updated_at) == (datetime(2030, 1, 1, tzinfo=UTC), None)
    assert (read.timeout, read.run_at, read.attempts) == (timedelta(seconds=9), None, 2)
    assert read.retry_policy.initial_backoff == timedelta(seconds=5)


async def test_a_state_from_a_later_server_reads_as_unspecified(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def get(request: v1.GetJobRequest, context: Any) -> v1.GetJobResponse:
        return v1.GetJobResponse(job=job(99))

    control_plane.answers["GetJob"] = get
    assert (await client.get("job_1")).status is JobStatus.UNSPECIFIED


async def test_a_refused_call_names_the_field_at_fault(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["GetJob"] = refuse(grpc.StatusCode.INVALID_ARGUMENT, "no job id", field="job_id")
    with pytest.raises(InvalidRequest, match="no job id") as caught:
        await client.get("nonsense")
    assert caught.value.field == "job_id"


async def test_a_refused_call_says_when_to_try_again(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["CancelJob"] = refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=2)
    with pytest.raises(Overloaded) as caught:
        await client.cancel("job_1")
    assert caught.value.retry_after == timedelta(seconds=2)


async def test_an_unknown_job_is_not_found(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["GetJob"] = refuse(grpc.StatusCode.NOT_FOUND, "no job job_1")
    with pytest.raises(JobNotFound, match="no job job_1"):
        await client.get("job_1")


async def test_waiting_asks_again_until_the_job_has_ended(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["WaitJob"] = in_turn(
        answer_wait(job(v1.JOB_STATUS_PENDING)),
        refuse(grpc.StatusCode.UNAVAILABLE, "stopping"),
        refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many waiters"),
        answer_wait(job(v1.JOB_STATUS_RUNNING)),
        answer_wait(job(v1.JOB_STATUS_SUCCEEDED)),
    )
    assert (await client.wait("job_1")).status is JobStatus.SUCCEEDED
    assert len(control_plane.requests) == 5


async def test_waiting_too_long_tells_the_last_state(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    held = Held(answer_wait(job(v1.JOB_STATUS_SUCCEEDED)))
    control_plane.answers["WaitJob"] = in_turn(answer_wait(job(v1.JOB_STATUS_RUNNING)), held)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s: it is running") as caught:
        await client.wait("job_1", timeout=0.3)
    assert caught.value.job is not None
    assert caught.value.job.status is JobStatus.RUNNING


async def test_the_wait_in_a_call_is_no_longer_than_the_callers(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["WaitJob"] = answer_wait(job(v1.JOB_STATUS_SUCCEEDED))
    await client.wait("job_1", timeout=4)
    await client.wait("job_1")
    waits = [request.wait.ToTimedelta().total_seconds() for request in control_plane.of_type(v1.WaitJobRequest)]
    assert waits == [pytest.approx(4, abs=1), 30]


async def test_an_old_server_is_polled(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    states = iter([v1.JOB_STATUS_PENDING, v1.JOB_STATUS_RUNNING, v1.JOB_STATUS_CANCELED])

    async def get(request: v1.GetJobRequest, context: Any) -> v1.GetJobResponse:
        return v1.GetJobResponse(job=job(next(states)))

    control_plane.answers["GetJob"] = get
    assert (await client.wait("job_1")).status is JobStatus.CANCELED
    assert [type(request) for request in control_plane.requests] == [v1.WaitJobRequest] + [v1.GetJobRequest] * 3


async def test_a_server_that_stays_away_ends_the_wait(
    control_plane: ScriptedControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "ONE_WAIT_S", 0.1)
    monkeypatch.setattr(waiting, "ANSWER_GRACE_S", 0.1)
    control_plane.answers["WaitJob"] = refuse(grpc.StatusCode.UNAVAILABLE, "the database is away")
    async with AsyncClient(control_plane.target, call_timeout=0.2) as client:
        with pytest.raises(Unavailable, match="the database is away"):
            await client.wait("job_1")


async def test_a_result_is_read_by_the_tasks_type_hint(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    control_plane.answers["WaitJob"] = answer_wait(job(v1.JOB_STATUS_SUCCEEDED, result=b"[1,2]"))
    assert await client.result("job_1", render) == [1, 2]
    assert await client.result("job_1", list[float]) == [1.0, 2.0]
    assert await client.result("job_1", bytes) == b"[1,2]"
    assert await client.result("job_1") == [1, 2]
    with pytest.raises(ResultMismatch, match="should be an object"):
        await client.result("job_1", dict[str, int])


async def test_no_result_is_none(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["WaitJob"] = answer_wait(job(v1.JOB_STATUS_SUCCEEDED))
    assert await client.result("job_1") is None


async def test_the_result_of_a_job_without_success_is_an_error(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    failed = job(v1.JOB_STATUS_FAILED, last_error="division by zero")
    control_plane.answers["WaitJob"] = in_turn(answer_wait(failed), answer_wait(job(v1.JOB_STATUS_CANCELED)))
    with pytest.raises(JobFailed, match="division by zero") as caught:
        await client.result("job_1", render)
    assert caught.value.job.job_id == "job_1"
    with pytest.raises(JobCanceled):
        await client.result("job_1", render)


def pages_of_executions(request: v1.ListExecutionsRequest) -> v1.ListExecutionsResponse:
    first, second = (
        v1.Execution(execution_id=f"exec_{number}", attempt=number, status=v1.EXECUTION_STATUS_FAILED)
        for number in (1, 2)
    )
    second.end_reason = v1.EXECUTION_END_REASON_LEASE_LOST
    if request.page_token:
        return v1.ListExecutionsResponse(executions=[second])
    return v1.ListExecutionsResponse(executions=[first], next_page_token="more")


async def test_executions_come_from_all_pages(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    async def page(request: v1.ListExecutionsRequest, context: Any) -> v1.ListExecutionsResponse:
        return pages_of_executions(request)

    control_plane.answers["ListExecutions"] = page
    first, second = [execution async for execution in client.executions("job_1", page_size=1)]
    assert (first.execution_id, first.status) == ("exec_1", ExecutionStatus.FAILED)
    assert (second.execution_id, second.end_reason) == ("exec_2", ExecutionEndReason.LEASE_LOST)
    assert [request.page_token for request in control_plane.requests] == ["", "more"]


async def test_redrive_splits_itself_and_answers_each_job(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def redrive(request: v1.RedriveDeadLettersRequest, context: Any) -> v1.RedriveDeadLettersResponse:
        refused = v1.ItemError(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="no dead letter")
        return v1.RedriveDeadLettersResponse(
            results=[
                v1.RedriveResult(job_id=each, error=refused)
                if each == "job_7"
                else v1.RedriveResult(job_id=each, job=v1.Job(job_id=each))
                for each in request.job_ids
            ]
        )

    control_plane.answers["RedriveDeadLetters"] = redrive
    answers = await client.redrive([f"job_{number}" for number in range(1_200)])
    assert [len(request.job_ids) for request in control_plane.requests] == [1_000, 200]
    assert isinstance(answers.pop(7), NotDeadLetter)
    assert all(isinstance(answer, Job) for answer in answers)


async def test_redrive_is_not_repeated_by_itself(control_plane: ScriptedControlPlane, client: AsyncClient) -> None:
    control_plane.answers["RedriveDeadLetters"] = refuse(grpc.StatusCode.UNAVAILABLE, "stopping")
    with pytest.raises(Unavailable):
        await client.redrive(["job_1"])
    assert len(control_plane.requests) == 1


async def test_operators_see_dead_letters_workers_and_queues(
    control_plane: ScriptedControlPlane, client: AsyncClient
) -> None:
    async def dead_letters(request: v1.ListDeadLettersRequest, context: Any) -> v1.ListDeadLettersResponse:
        return v1.ListDeadLettersResponse(jobs=[v1.Job(job_id="job_1", job_type=request.job_type)])

    async def workers(request: v1.ListWorkersRequest, context: Any) -> v1.ListWorkersResponse:
        return v1.ListWorkersResponse(workers=[v1.Worker(worker_id="w", status=v1.WORKER_STATUS_OFFLINE, held=3)])

    async def queues(request: v1.ListQueuesRequest, context: Any) -> v1.ListQueuesResponse:
        queue = v1.Queue(capability="report", depth=4, delayed=1)
        queue.oldest_age.FromSeconds(8)
        return v1.ListQueuesResponse(queues=[queue])

    control_plane.answers |= {"ListDeadLetters": dead_letters, "ListWorkers": workers, "ListQueues": queues}
    [dead_letter] = [each async for each in client.dead_letters("report.render")]
    [registered] = [each async for each in client.workers()]
    [queue] = await client.queues()
    assert (dead_letter.job_id, dead_letter.job_type) == ("job_1", "report.render")
    assert (registered.worker_id, registered.status, registered.held) == ("w", WorkerStatus.OFFLINE, 3)
    assert (queue.capability, queue.depth, queue.oldest_age, queue.delayed) == ("report", 4, timedelta(seconds=8), 1)


async def test_leaving_the_client_ends_calls_in_flight(control_plane: ScriptedControlPlane) -> None:
    held = Held(answer_wait(job(v1.JOB_STATUS_SUCCEEDED)))
    control_plane.answers["WaitJob"] = held
    async with AsyncClient(control_plane.target) as client:
        waiting_task = asyncio.create_task(client.wait("job_1"))
        await held.arrived.wait()
    with pytest.raises(ClientClosed):
        await waiting_task


# The client without an event loop: its server needs a loop in another thread.


@pytest.fixture
def served() -> Iterator[ScriptedControlPlane]:
    thread = LoopThread("scripted control-plane")
    loop = thread.start()
    ready: Future[ScriptedControlPlane] = Future()
    is_over = asyncio.Event()

    async def serve() -> None:
        async with scripted_control_plane() as peer:
            ready.set_result(peer)
            await is_over.wait()

    over = thread.submit(serve, "serve")
    yield ready.result(10)
    loop.call_soon_threadsafe(is_over.set)
    over.result(10)
    thread.close(10)


def test_a_program_without_an_event_loop_submits_waits_and_reads(served: ScriptedControlPlane) -> None:
    served.answers["SubmitJobs"] = store_all
    served.answers["WaitJob"] = answer_wait(job(v1.JOB_STATUS_SUCCEEDED, result=b"[5]"))

    async def page(request: v1.ListExecutionsRequest, context: Any) -> v1.ListExecutionsResponse:
        return pages_of_executions(request)

    served.answers["ListExecutions"] = page
    with Client(served.target) as client:
        submitted = client.submit("report.render", b"1")
        assert client.wait(submitted).status is JobStatus.SUCCEEDED
        assert client.result(submitted, render) == [5]
        assert [each.execution_id for each in client.executions(submitted)] == ["exec_1", "exec_2"]
        many = client.submit_many(Submission(job_type="report.render", payload=b"%d" % n) for n in range(3))
        assert all(isinstance(each, Job) for each in many)
        with pytest.raises(InvalidRequest):
            client.submit("report.render", b"1", priority="high")  # type: ignore[call-overload]
    with pytest.raises(ClientClosed, match="with Client"):
        client.get("job_1")


def test_submits_from_many_threads_travel_together(served: ScriptedControlPlane) -> None:
    first = Held(store_all)
    served.answers["SubmitJobs"] = in_turn(first, store_all)
    with Client(served.target) as client, ThreadPoolExecutor(17) as threads:
        groups = client._client._opened().submitter._gatherer._groups

        async def until_all_others_wait() -> None:
            while sum(len(group.waiting) for group in groups.values()) + len(served.requests[0].items) < 17:  # noqa: ASYNC110
                await asyncio.sleep(0)

        jobs = [threads.submit(client.submit, "report.render", b"%d" % number) for number in range(17)]
        assert first.arrived_in_server.wait(10)
        client._call(until_all_others_wait)
        first.let_go()
        assert sorted(int(each.result(10).job_id[4:], 16) for each in jobs) == list(range(17))
    assert len(served.requests) == 2


def test_leaving_the_client_ends_calls_of_other_threads(served: ScriptedControlPlane) -> None:
    held = Held(answer_wait(job(v1.JOB_STATUS_SUCCEEDED)))
    served.answers["WaitJob"] = held
    with ThreadPoolExecutor(1) as threads:
        with Client(served.target) as client:
            call = threads.submit(client.wait, "job_1")
            assert held.arrived_in_server.wait(10)
        with pytest.raises(ClientClosed):
            call.result(10)
