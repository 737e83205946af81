"""Started notices: RUNNING with the age that the gateway measured, written with a renewal, never in the way."""

from datetime import timedelta
from functools import partial

from dispatchd.v1 import dispatchd_pb2 as pb
from gateway.client import Client
from gateway.facts import Facts, eventually
from gateway.roles import RunningRole
from gateway.worker_stream import ACCEPTED, BATCHING, STARTED, WorkerStream, worker


async def start(stream: WorkerStream, *execution_ids: str) -> None:
    await stream.send(started=pb.ExecutionsStarted(execution_ids=execution_ids))


async def is_running(facts: Facts, stream: WorkerStream, execution_id: str) -> bool:
    await stream.beat()
    return (await facts.execution(execution_id)).state == "running"


async def test_an_execution_runs_from_when_the_worker_said_so(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    """The notice waits while the session is locked; what is written then is when it came."""
    job_id = await jobs.submit()
    async with worker(gateway.address) as stream:
        await stream.register(features=[BATCHING, STARTED])
        execution_id = (await stream.assignment()).execution_id
        assert (await jobs.job(job_id)).status == pb.JOB_STATUS_DISPATCHING
        session = await facts.session(stream.worker_id)
        async with facts.holding_session(session.session_id):
            before = await facts.value("select clock_timestamp()")
            await start(stream, execution_id)
            await stream.beat()
            after = await facts.value("select clock_timestamp()")

            async def is_a_second_later() -> bool:
                return bool(await facts.value("select clock_timestamp() - $1 > interval '1 s'", after))

            await eventually(is_a_second_later, "a second has passed")
        await eventually(partial(is_running, facts, stream, execution_id), "it runs")
        assert (await jobs.job(job_id)).status == pb.JOB_STATUS_RUNNING
        execution = await facts.execution(execution_id)
        assert execution.started_at is not None
        assert before <= execution.started_at < after + timedelta(seconds=1)
        assert execution.claimed_at is not None
        assert execution.started_at > execution.claimed_at
        [shown] = await jobs.executions(job_id)
        assert shown.status == pb.EXECUTION_STATUS_RUNNING
        assert (await stream.finish(execution_id)).outcome == ACCEPTED
    assert (await facts.execution(execution_id)).started_at == execution.started_at


async def test_a_result_that_comes_first_ends_it_all_the_same(gateway: RunningRole, jobs: Client, facts: Facts) -> None:
    await jobs.submit_many(2)
    async with worker(gateway.address) as stream:
        await stream.register(slots=2, features=[BATCHING, STARTED])
        first, second = [assignment.execution_id for assignment in await stream.assignments(2)]
        await start(stream, first, second)
        await stream.result(first)
        await stream.ack()
        await eventually(partial(is_running, facts, stream, second), "the other one runs")
        assert (await facts.execution(first)).state == "succeeded"


async def test_a_notice_is_written_once_and_strange_ones_do_nothing(
    gateway: RunningRole, jobs: Client, facts: Facts
) -> None:
    await jobs.submit_many(2)
    async with worker(gateway.address) as stream, worker(gateway.address) as other:
        await stream.register(features=[BATCHING, STARTED])
        execution_id = (await stream.assignment()).execution_id
        await other.register()
        others = (await other.assignment()).execution_id
        await start(stream, others, "no id", "", "exec_" + "0" * 32, execution_id)
        await eventually(partial(is_running, facts, stream, execution_id), "it runs")
        before = await facts.execution(execution_id)
        await start(stream, execution_id)
        session = await facts.session(stream.worker_id)

        async def is_renewed() -> bool:
            await stream.beat()
            return (await facts.session(stream.worker_id)).lease_expires_at > session.lease_expires_at

        await eventually(is_renewed, "a renewal has passed")
        assert await facts.execution(execution_id) == before
        assert (await facts.execution(others)).state == "claimed"
