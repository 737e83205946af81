"""The worker's side of the stream: registration, work, results, and going on over another stream."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from dispatchd import InvalidRequest, TaskContext, Unauthenticated, Worker, WorkerSuperseded
from dispatchd.sdk.worker import stream as stream_module
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.gates import Gate
from sdk.scripted_gateway import ScriptedGateway
from sdk.serving import serving

NO_STREAM = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def worker(gateway: ScriptedGateway) -> Worker:
    return Worker(gateway.target, worker_id="w1", max_concurrency=2, labels={"zone": "a"}, drain_timeout=10)


async def test_the_first_message_says_who_the_worker_is_and_what_it_can_do(gateway: ScriptedGateway) -> None:
    worker = Worker(gateway.target, worker_id="w1", max_concurrency=7, labels={"zone": "a"}, call_metadata={"X-A": "1"})
    for job_type in ("report.render", "report.compute", "email.send"):
        Gate(worker, job_type)
    async with serving(worker):
        stream = await gateway.accept()
        registration = await stream.register()
    assert (registration.worker_id, registration.max_concurrency) == ("w1", 7)
    assert list(registration.capabilities) == ["email", "report"]
    assert dict(registration.labels) == {"zone": "a"}
    assert set(registration.features) == {
        v1.WORKER_FEATURE_BATCHING,
        v1.WORKER_FEATURE_STARTED,
        v1.WORKER_FEATURE_RESUME,
    }
    assert len(registration.process_id) >= 16
    assert list(registration.held_execution_ids) == []
    assert gateway.headers[0]["x-a"] == "1"


async def test_an_execution_is_begun_run_reported_and_forgotten_when_acked(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    seen: list[TaskContext] = []

    @worker.task("report.render")
    async def render(pages: dict[str, int], context: TaskContext) -> int:
        seen.append(context)
        return sum(pages.values())

    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", payload=b'{"a": 1, "b": 2}', attempt=3, metadata={"k": "v"}, traceparent="00-1")
        assert await stream.result() == v1.TaskResult(execution_id="e1", success=True, payload=b"3")
        stream.ack("e1")
        stream.end(NO_STREAM)
        again = await gateway.accept()
        assert list((await again.register()).held_execution_ids) == []
    [context] = seen
    assert (context.job_id, context.execution_id, context.job_type) == ("job of e1", "e1", "report.render")
    assert (context.attempt, context.metadata, context.traceparent) == (3, {"k": "v"}, "00-1")
    assert (context.deadline, context.cancelled) == (None, False)


async def test_single_assignments_and_acks_are_understood_too(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.say(assignment=v1.TaskAssignment(execution_id="e1", job_type="report.render", payload=b"1"))
        await stream.begun("e1")
        gate.let_go("e1")
        assert (await stream.result()).success
        stream.say(ack=v1.WorkerAck(execution_id="e1", worker_id="w1"))
        stream.end(NO_STREAM)
        assert list((await (await gateway.accept()).register()).held_execution_ids) == []


async def test_never_more_run_than_there_are_slots(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    names = [f"e{number}" for number in range(6)]
    async with serving(worker):
        stream = await gateway.register()
        stream.assign(*names)
        await stream.begun("e0", "e1")
        for done, next_one in zip(names, [*names[2:], "", ""], strict=True):
            gate.let_go(done)
            assert (await stream.result()).execution_id == done
            stream.ack(done)
            if next_one:
                await stream.begun(next_one)
    assert gate.most_at_once == 2


async def test_plain_functions_run_in_threads_beside_each_other(gateway: ScriptedGateway, worker: Worker) -> None:
    both = threading.Barrier(2)
    threads: set[str] = set()

    @worker.task("report.compute")
    def compute(value: int) -> int:
        both.wait(10)
        threads.add(threading.current_thread().name)
        return value

    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", "e2", job_type="report.compute")
        results: list[v1.TaskResult] = []
        while len(results) < 2:
            results += await stream.results()
    assert all(result.success for result in results)
    assert len(threads) == 2
    assert threading.current_thread().name not in threads


async def test_a_job_type_without_a_task_fails_its_attempt_and_says_what_there_is(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", job_type="report.unheard.of")
        result = await stream.result()
    assert (result.success, result.do_not_retry) == (False, False)
    assert "no task 'report.unheard.of', only report.render" in result.error_message


async def test_log_lines_go_to_the_gateway_and_their_acks_are_not_taken_for_the_results(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)

    @worker.task("report.talk")
    async def talk(value: int, context: TaskContext) -> int:
        context.log("half way")
        return value

    before = datetime.now(UTC)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("talks", job_type="report.talk")
        kinds: dict[str | None, v1.ConnectRequest] = {}
        while not {"log_chunk", "results"} <= kinds.keys():
            message = await stream.receive()
            kinds[message.WhichOneof("payload")] = message
        log = kinds["log_chunk"].log_chunk
        assert (log.execution_id, log.message) == ("talks", "half way")
        assert before - timedelta(seconds=1) <= log.emitted_at.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
        stream.ack("talks")
        stream.assign("e1")
        await stream.begun("e1")
        stream.end(NO_STREAM)
        again = await gateway.accept()
        assert set((await again.register()).held_execution_ids) == {"talks", "e1"}
        assert (await again.result()).execution_id == "talks"
        again.ack("talks")
        gate.let_go("e1")
        assert (await again.result()).execution_id == "e1"


# Going on over another stream.


async def test_results_are_kept_until_acked_and_sent_again_on_the_next_stream(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        gate.let_go("e1")
        first = await stream.result()
        for _ in range(2):
            stream.end(NO_STREAM)
            stream = await gateway.accept()
            registration = await stream.register()
            assert list(registration.held_execution_ids) == ["e1"]
            assert await stream.result() == first
        stream.ack("e1")
        stream.end(NO_STREAM)
        stream = await gateway.accept()
        assert list((await stream.register()).held_execution_ids) == []


async def test_what_finishes_without_a_stream_is_reported_on_the_next(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        stream.end(NO_STREAM)
        stream = await gateway.accept()
        gate.let_go("e1")
        registration = await stream.register()
        assert list(registration.held_execution_ids) == ["e1"]
        assert (await stream.result()).success


async def test_the_registration_names_everything_held_and_the_same_process(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        process_id = stream.registration.process_id
        stream.assign("finished", "running", "next", "waiting")
        await stream.begun("finished", "running")
        gate.let_go("finished")
        assert (await stream.result()).execution_id == "finished"
        await stream.begun("next")
        stream.end(NO_STREAM)
        stream = await gateway.accept()
        registration = await stream.register()
        assert list(registration.held_execution_ids) == ["finished", "running", "next", "waiting"]
        assert registration.process_id == process_id
        await stream.begun("next", "running")
    assert gate.ended["running"] == "cancelled"


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
    ],
)
async def test_a_registered_worker_connects_again_whatever_ended_its_stream(
    gateway: ScriptedGateway, worker: Worker, code: grpc.StatusCode
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        stream.end(code, "the region is passive")
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["e1"]
        gate.let_go("e1")
        assert (await stream.result()).success


async def test_a_passive_region_is_tried_again_before_the_first_registration(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    Gate(worker)
    async with serving(worker):
        for _ in range(2):
            stream = await gateway.accept()
            stream.end(grpc.StatusCode.FAILED_PRECONDITION, "the primary region is b")
        await gateway.register()


@pytest.mark.parametrize(
    ("code", "error"),
    [(grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest), (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated)],
)
async def test_a_worker_that_is_set_up_wrongly_ends_at_its_first_registration(
    gateway: ScriptedGateway, worker: Worker, code: grpc.StatusCode, error: type[Exception]
) -> None:
    Gate(worker)
    async with serving(worker) as serve:
        (await gateway.accept()).end(code, "worker_id is too long")
        with pytest.raises(error, match="worker_id is too long"):
            await serve


async def test_a_superseded_worker_cancels_its_tasks_and_names_its_id(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        stream.end(grpc.StatusCode.ABORTED, "superseded by 10.0.0.9")
        with pytest.raises(WorkerSuperseded, match=r"'w1' was taken over .*10\.0\.0\.9") as caught:
            await serve
    assert caught.value.worker_id == "w1"
    assert gate.ended == {"e1": "cancelled"}


async def test_a_superseded_worker_knows_it_although_it_was_writing_at_that_moment(
    gateway: ScriptedGateway,
) -> None:
    for _ in range(10):
        worker = Worker(gateway.target, worker_id="w1", max_concurrency=1)

        @worker.task("report.render")
        async def render(value: int) -> int:
            return value

        @worker.task("report.talk")
        async def talk(value: int, context: TaskContext) -> None:
            while True:
                context.log("x" * 10_000)
                await asyncio.sleep(0)

        async with serving(worker) as serve:
            stream = await gateway.register()
            stream.assign("e1", job_type="report.talk")
            while (await stream.receive()).WhichOneof("payload") != "log_chunk":
                pass
            stream.end(grpc.StatusCode.ABORTED, "superseded")
            with pytest.raises(WorkerSuperseded):
                await serve


async def test_a_gateway_that_goes_is_left_for_the_next_and_running_tasks_notice_nothing(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        old = await gateway.register()
        old.assign("e1", "e2")
        await old.begun("e1", "e2")
        gate.let_go("e1")
        await old.result()
        old.drain(v1.DRAIN_KIND_RECONNECT)
        new = await gateway.accept()
        assert not old.is_closed_by_worker.is_set()
        registration = await new.register()
        assert list(registration.held_execution_ids) == ["e1", "e2"]
        await asyncio.wait_for(old.is_closed_by_worker.wait(), 10)
        assert (await new.result()).execution_id == "e1"
        gate.let_go("e2")
        assert (await new.result()).execution_id == "e2"
    assert gate.ended == {"e1": "finished", "e2": "finished"}


async def test_until_the_next_stream_is_registered_the_old_one_goes_on(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        old = await gateway.register()
        old.assign("e1")
        await old.begun("e1")
        old.drain(v1.DRAIN_KIND_RECONNECT)
        (await gateway.accept()).end(NO_STREAM)
        gate.let_go("e1")
        assert (await old.result()).execution_id == "e1"
        old.ack("e1")
        new = await gateway.accept()
        assert list((await new.register()).held_execution_ids) in ([], ["e1"])
        await asyncio.wait_for(old.is_closed_by_worker.wait(), 10)


async def test_the_old_stream_may_be_superseded_by_the_next_one(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        old = await gateway.register()
        old.assign("e1")
        await old.begun("e1")
        old.drain(v1.DRAIN_KIND_RECONNECT)
        new = await gateway.accept()
        message = await new.receive()
        assert message.HasField("registration")
        old.end(grpc.StatusCode.ABORTED, "superseded")
        await old.is_over.wait()
        new.registration = message.registration
        new.answer_heartbeats(30)
        new.ack_life(30)
        await new.begun("e1")
        gate.let_go("e1")
        assert (await new.result()).success


async def test_an_assignment_that_comes_over_the_old_stream_after_the_next_has_registered_is_ignored(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        old = await gateway.register()
        old.drain(v1.DRAIN_KIND_RECONNECT)
        new = await gateway.accept()
        message = await new.receive()
        old.assign("too late")
        old.ack("unknown")
        new.registration = message.registration
        new.answer_heartbeats(30)
        new.ack_life(30)
        new.assign("e1")
        await new.begun("e1")
        assert list(gate.running) == ["e1"]


async def test_a_gateway_that_no_longer_answers_is_left(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        silent = await gateway.register(lease_s=2.0)
        silent.assign("e1")
        await silent.begun("e1")
        silent.ignore_heartbeats()
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["e1"]
        gate.let_go("e1")
        assert (await stream.result()).success


async def test_a_registration_that_is_not_answered_is_tried_on_another_stream(
    gateway: ScriptedGateway, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "REGISTRATION_TIMEOUT_S", 0.2)
    Gate(worker)
    async with serving(worker):
        deaf = await gateway.accept()
        await deaf.receive()
        await gateway.register()


async def test_the_ghost_of_a_given_up_registration_does_not_end_the_worker(
    gateway: ScriptedGateway, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "REGISTRATION_TIMEOUT_S", 0.2)
    Gate(worker)
    async with serving(worker) as serve:
        deaf = await gateway.accept()
        await deaf.receive()
        stream = await gateway.register()
        stream.end(grpc.StatusCode.ABORTED, "superseded by the same process")
        stream = await gateway.register()
        stream.end(grpc.StatusCode.ABORTED, "superseded by another process")
        with pytest.raises(WorkerSuperseded, match="another process"):
            await serve


async def test_messages_of_a_later_server_are_ignored(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.say()
        stream.assign("e1")
        await stream.begun("e1")
        gate.let_go("e1")
        assert (await stream.result()).success


async def test_a_worker_without_tasks_does_not_start(worker: Worker) -> None:
    with pytest.raises(ValueError, match="no tasks"):
        await worker.serve()


async def test_a_worker_serves_once_at_a_time(gateway: ScriptedGateway, worker: Worker) -> None:
    Gate(worker)
    async with serving(worker):
        await gateway.register()
        with pytest.raises(RuntimeError, match="serving already"):
            await worker.serve()
