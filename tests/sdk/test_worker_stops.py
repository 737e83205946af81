"""What ends a task before its time: cancel, timeout, a lost lease, a blocked loop, a drain."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest

from dispatchd import AsyncClient, ClientClosed, TaskContext, Worker
from dispatchd.sdk.worker import drain as drain_module
from dispatchd.v1 import dispatchd_pb2 as v1
from sdk.gates import Gate, ThreadGate
from sdk.scripted_control_plane import Held, ScriptedControlPlane, store_all
from sdk.scripted_gateway import ScriptedGateway
from sdk.serving import serving

NO_STREAM = grpc.StatusCode.UNAVAILABLE
# Long enough for a busy machine to keep it, short enough to wait for its end.
SHORT_LEASE_S = 1.5


@pytest.fixture
def worker(gateway: ScriptedGateway) -> Worker:
    return Worker(gateway.target, worker_id="w1", max_concurrency=2, drain_timeout=20)


# Cancel.


async def test_a_canceled_task_is_cancelled_and_its_slot_reported_free(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", "e2", "waits")
        await stream.begun("e1", "e2")
        stream.cancel("e1")
        result = await stream.result()
        assert (result.execution_id, result.success, result.error_type) == ("e1", False, "Stopped")
        assert gate.ended == {"e1": "cancelled"}
        await stream.begun("waits")
        assert sorted(gate.running) == ["e2", "waits"]


async def test_a_task_is_cancelled_once_however_often_the_server_says_so(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    cancellations: list[str] = []
    go = asyncio.Event()
    is_cancelled = asyncio.Event()

    @worker.task("report.render")
    async def cleans_up(value: int, context: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancellations.append(context.execution_id)
            is_cancelled.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancellations.append("again")
            raise

    async with serving(worker):
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("e1")
        await stream.begun("e1")
        stream.cancel("e1")
        await is_cancelled.wait()
        stream.cancel("e1")
        stream.ack_life(SHORT_LEASE_S, lost=["e1"])
        await stream.beats(len(stream.heartbeats) + 2)
        go.set()
        assert (await stream.result()).execution_id == "e1"
    assert cancellations == ["e1"]


async def test_a_canceled_thread_is_told_and_its_result_is_sent(gateway: ScriptedGateway, worker: Worker) -> None:
    told = threading.Event()

    @worker.task("report.compute")
    def compute(value: int, context: TaskContext) -> str:
        while not context.cancelled:
            told.wait(0.01)
        return "stopped early"

    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", job_type="report.compute")
        await stream.begun("e1")
        stream.cancel("e1")
        assert (await stream.result()).payload == b'"stopped early"'


async def test_what_an_ack_calls_lost_is_stopped(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", "e2")
        await stream.begun("e1", "e2")
        stream.ack_life(30, lost=["e1", "never seen"])
        assert (await stream.result()).execution_id == "e1"
        assert gate.ended == {"e1": "cancelled"}


async def test_what_a_registrations_ack_calls_lost_is_stopped(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", "e2")
        await stream.begun("e1", "e2")
        stream.end(NO_STREAM)
        stream = await gateway.accept()
        await stream.register(lost=["e2"])
        assert (await stream.result()).execution_id == "e2"
        assert list(gate.running) == ["e1"]


# Timeouts.


async def test_the_smaller_timeout_wins(gateway: ScriptedGateway, worker: Worker) -> None:
    Gate(worker, "report.patient", timeout=60)
    Gate(worker, "report.hasty", timeout=0.1)
    short, long = v1.TaskAssignment(), v1.TaskAssignment()
    short.time_left.FromMilliseconds(100)
    long.time_left.FromSeconds(60)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("jobs", job_type="report.patient", time_left=short.time_left)
        stream.assign("tasks", job_type="report.hasty", time_left=long.time_left)
        results = await collect(stream, 2)
    assert {result.execution_id for result in results} == {"jobs", "tasks"}
    assert all(
        (result.success, result.do_not_retry, result.error_type) == (False, False, "Timeout") for result in results
    )


async def test_the_context_knows_the_smaller_deadline(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker, timeout=60)
    job = v1.TaskAssignment()
    job.time_left.FromSeconds(3600)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", time_left=job.time_left)
        await stream.begun("e1")
    [context] = gate.contexts
    assert context.deadline is not None
    assert timedelta(seconds=50) < context.deadline - gate.began[0] <= timedelta(seconds=60)


async def test_a_thread_that_overruns_is_reported_at_once_and_keeps_its_slot(gateway: ScriptedGateway) -> None:
    worker = Worker(gateway.target, worker_id="w1", max_concurrency=1)
    gate = ThreadGate(worker, timeout=0.1)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", job_type="report.compute")
        result = await stream.result()
        assert (result.error_type, result.do_not_retry) == ("Timeout", False)
        assert gate.contexts[0].cancelled
        stream.ack("e1")
        stream.assign("e2", job_type="report.compute")
        gate.let_go()
        assert (await stream.result()).execution_id == "e2"
        assert len(gate.contexts) == 2


async def test_what_an_overrun_thread_returns_comes_too_late(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = ThreadGate(worker, timeout=0.1)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1", job_type="report.compute")
        await stream.result()
        gate.let_go()
        worker.drain()
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        assert stream.nothing_more()


# Leases.


async def test_a_lost_lease_cancels_async_tasks_and_gives_them_back_on_the_next_stream_when_they_have_ended(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    may_end = asyncio.Event()
    is_cancelled = asyncio.Event()

    @worker.task("report.render")
    async def cleans_up(value: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            await may_end.wait()
            raise

    async with serving(worker):
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("e1")
        await stream.begun("e1")
        stream.ignore_heartbeats()
        await is_cancelled.wait()
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["e1"]
        await stream.begun("e1")
        may_end.set()
        assert await stream.given_back() == ["e1"]
        stream.ack("e1")
        stream.end(NO_STREAM)
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == []


async def test_a_give_back_is_repeated_until_it_is_acked(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("e1")
        await stream.begun("e1")
        stream.ignore_heartbeats()
        await gate.was_cancelled.wait()
        for _ in range(2):
            stream = await gateway.register()
            assert list(stream.registration.held_execution_ids) == ["e1"]
            assert await stream.given_back() == ["e1"]
            stream.end(NO_STREAM)


async def test_a_lease_that_the_server_can_no_longer_renew_is_lost_although_the_stream_lives(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("e1")
        await stream.begun("e1")
        stream.answer_heartbeats(0.0)
        assert await stream.given_back() == ["e1"]
        assert gate.ended == {"e1": "cancelled"}
        stream.ack("e1")
        stream.answer_heartbeats(5)
        await stream.beats(len(stream.heartbeats) + 2)
        stream.assign("e2")
        await stream.begun("e2")
        gate.let_go("e2")
        assert (await stream.result()).success


async def test_a_thread_outlives_the_lease_stays_listed_and_sends_its_result(
    gateway: ScriptedGateway, worker: Worker
) -> None:
    gate = ThreadGate(worker)
    async_gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("thread", job_type="report.compute")
        stream.assign("async")
        await stream.begun("thread", "async")
        stream.ignore_heartbeats()
        await async_gate.was_cancelled.wait()
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["thread", "async"]
        assert await stream.given_back() == ["async"]
        assert not gate.contexts[0].cancelled
        gate.let_go()
        result = await stream.result()
        assert (result.execution_id, result.success) == ("thread", True)


class OtherLoop:
    """A worker whose user's loop runs in another thread, so that it can be blocked while the gateway goes on.

    That loop also has calls of its own under way, so that both loops share gRPC's machinery.
    """

    def __init__(self, worker: Worker, control_plane: ScriptedControlPlane) -> None:
        self.worker = worker
        self.is_blocked = threading.Event()
        self.may_go_on = threading.Event()
        self._target = control_plane.target
        self._unanswered = Held(store_all)
        control_plane.answers["WaitJob"] = self._unanswered

        @worker.task("report.block")
        async def block(value: int) -> int:
            self.is_blocked.set()
            assert self.may_go_on.wait(30)
            return value

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="user's loop")
        thread.start()
        try:
            yield
        finally:
            self.may_go_on.set()
            self.worker.stop()
            await asyncio.to_thread(thread.join, 20)
            assert not thread.is_alive()

    async def _serve(self) -> None:
        async with AsyncClient(self._target) as client:
            call = asyncio.create_task(client.wait("job_1"))
            assert await asyncio.to_thread(self._unanswered.arrived_in_server.wait, 10)
            await self.worker.serve()
        with pytest.raises(ClientClosed):
            await call


async def test_a_task_that_blocks_the_users_loop_for_three_leases_keeps_its_lease(
    gateway: ScriptedGateway, control_plane: ScriptedControlPlane, worker: Worker
) -> None:
    other = OtherLoop(worker, control_plane)
    async with other.serving():
        stream = await gateway.register(SHORT_LEASE_S)
        stream.assign("e1", job_type="report.block")
        assert await asyncio.to_thread(other.is_blocked.wait, 10)
        begin = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - begin < 3 * SHORT_LEASE_S:
            await stream.beats(len(stream.heartbeats) + 1)
        other.may_go_on.set()
        result = await stream.result()
        assert (result.execution_id, result.success) == ("e1", True)
    # Three a lease, less what a busy machine delays.
    assert len(stream.heartbeats) >= 5


async def test_plain_functions_go_on_while_the_users_loop_is_blocked(
    gateway: ScriptedGateway, control_plane: ScriptedControlPlane, worker: Worker
) -> None:
    other = OtherLoop(worker, control_plane)

    @worker.task("report.compute")
    def compute(value: int) -> int:
        return value

    async with other.serving():
        stream = await gateway.register()
        stream.assign("e1", job_type="report.block")
        assert await asyncio.to_thread(other.is_blocked.wait, 10)
        stream.assign("e2", job_type="report.compute")
        assert (await stream.result()).execution_id == "e2"


async def test_a_loop_blocked_beyond_the_stall_limit_loses_its_stream_and_comes_back(
    gateway: ScriptedGateway, control_plane: ScriptedControlPlane
) -> None:
    worker = Worker(gateway.target, worker_id="w1", max_concurrency=2, stall_limit=0.4)
    other = OtherLoop(worker, control_plane)
    gate = ThreadGate(worker)
    async with other.serving():
        stream = await gateway.register()
        stream.assign("thread", job_type="report.compute")
        await stream.begun("thread")
        stream.assign("blocked", job_type="report.block")
        await asyncio.wait_for(stream.is_closed_by_worker.wait(), 20)
        other.may_go_on.set()
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["thread", "blocked"]
        gate.let_go()
        results = await collect(stream, 2)
        assert {result.execution_id for result in results} == {"thread", "blocked"}


async def test_a_stream_that_registers_while_the_loop_is_stalled_is_closed_again(
    gateway: ScriptedGateway, control_plane: ScriptedControlPlane
) -> None:
    worker = Worker(gateway.target, worker_id="w1", stall_limit=0.4)
    other = OtherLoop(worker, control_plane)
    async with other.serving():
        stream = await gateway.register()
        stream.assign("blocked", job_type="report.block")
        assert await asyncio.to_thread(other.is_blocked.wait, 10)
        stream.end(NO_STREAM)
        late = await gateway.accept()
        begin = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(late.is_over.wait(), 1.0)
        assert asyncio.get_running_loop().time() - begin > 0.5
        await late.register()
        await asyncio.wait_for(late.is_closed_by_worker.wait(), 20)
        other.may_go_on.set()
        stream = await gateway.register()
        assert list(stream.registration.held_execution_ids) == ["blocked"]


# Drain.


async def test_a_drain_finishes_what_runs_and_gives_back_what_waits(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1", "e2", "waits")
        await stream.begun("e1", "e2")
        worker.drain()
        assert await stream.given_back() == ["waits"]
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        stream.ack("waits")
        stream.assign("late")
        assert await stream.given_back() == ["late"]
        stream.ack("late")
        gate.let_go("e1", "e2")
        for result in await collect(stream, 2):
            stream.ack(result.execution_id)
        await serve
    assert gate.ended == {"e1": "finished", "e2": "finished"}
    assert stream.is_closed_by_worker.is_set()


async def test_a_drain_waits_for_the_acks(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker):
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        worker.drain()
        gate.let_go("e1")
        first = await stream.result()
        stream.end(NO_STREAM)
        stream = await gateway.register()
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        assert await stream.result() == first


async def test_a_worker_that_holds_nothing_drains_without_a_gateway() -> None:
    worker = Worker("127.0.0.1:1", worker_id="w1")
    Gate(worker)
    async with serving(worker) as serve:
        worker.drain()
        await serve


async def test_a_gateway_may_ask_a_worker_to_leave(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        stream.drain(v1.DRAIN_KIND_UNSPECIFIED)
        await stream.beats_as(v1.WORKER_STATUS_DRAINING)
        gate.let_go("e1")
        stream.ack((await stream.result()).execution_id)
        await serve


async def test_at_the_end_of_its_time_a_drain_cancels_and_gives_back_but_never_a_thread(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "CANCEL_TIMEOUT_S", 10.0)
    worker = Worker(gateway.target, worker_id="w1", max_concurrency=2, drain_timeout=0.2)
    gate = Gate(worker)
    thread_gate = ThreadGate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("thread", job_type="report.compute")
        stream.assign("async")
        await stream.begun("thread", "async")
        worker.drain()
        assert await stream.given_back() == ["async"]
        assert gate.ended == {"async": "cancelled"}
        stream.ack("async")
        await serve
        assert stream.nothing_more()
        assert not thread_gate.contexts[0].cancelled
    thread_gate.let_go()


async def test_a_task_that_ends_in_time_by_its_cancellation_is_waited_for_and_given_back(
    gateway: ScriptedGateway,
) -> None:
    worker = Worker(gateway.target, worker_id="w1", max_concurrency=2, drain_timeout=0.1)
    cleaned_up = asyncio.Event()

    @worker.task("report.render")
    async def cleans_up(value: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned_up.set()

    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        worker.drain()
        assert await stream.given_back() == ["e1"]
        assert cleaned_up.is_set()
        stream.ack("e1")
        await serve


async def test_cancelling_serve_cancels_tasks_and_gives_them_back(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        serve.cancel()
        assert await stream.given_back() == ["e1"]
        stream.ack("e1")
        with pytest.raises(asyncio.CancelledError):
            await serve
    assert gate.ended == {"e1": "cancelled"}


async def test_stop_ends_at_once_and_gives_nothing_back(gateway: ScriptedGateway, worker: Worker) -> None:
    gate = Gate(worker)
    async with serving(worker) as serve:
        stream = await gateway.register()
        stream.assign("e1")
        await stream.begun("e1")
        worker.stop()
        await serve
        await stream.is_over.wait()
        assert stream.nothing_more()
    assert gate.ended == {"e1": "cancelled"}


async def test_a_worker_may_serve_again(gateway: ScriptedGateway, worker: Worker) -> None:
    Gate(worker)
    processes = set()
    for _ in range(2):
        async with serving(worker) as serve:
            stream = await gateway.register()
            processes.add(stream.registration.process_id)
            worker.drain()
            await serve
    assert len(processes) == 2


async def collect(stream: Any, count: int) -> list[v1.TaskResult]:
    results: list[v1.TaskResult] = []
    while len(results) < count:
        results += await stream.results()
    return results
