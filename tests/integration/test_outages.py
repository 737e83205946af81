"""Postgres away or deaf: callers are told in time, cancelled work is over, and afterwards everything works."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from control_planes import ControlPlane, control_plane_on, details
from dispatchd.application.ports import BatchRejected, DatabaseUnavailable
from dispatchd.domain.ids import parse_job_id
from dispatchd.v1 import dispatchd_pb2 as pb
from garbage import collected_late
from stores import FENCE, insert, new_job, open_stores, register, sql, wait_long_for_locks
from tcp_proxy import TcpProxy, proxy_to
from waiting import eventually, until_waiting

IN_TIME_S = 2.0
SLACK_S = 1.0
"""For a busy machine."""

Call = Callable[[], Awaitable[object]]


def address_of(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[TcpProxy]:
    async with proxy_to(address_of(database_url)) as proxy:
        yield proxy


@pytest.fixture
def through(database_url: str, proxy: TcpProxy) -> str:
    """The database behind the proxy."""
    return database_url.replace(address_of(database_url), f"127.0.0.1:{proxy.port}")


@pytest.fixture
async def plane(through: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(through, redis_address) as plane:
        yield plane


def calls(plane: ControlPlane, job_id: str) -> dict[str, Call]:
    item = pb.SubmitJobsItem(request=pb.SubmitJobRequest(job_type="a", payload=b"1"))

    async def submit_many() -> None:
        answer = await plane.jobs.SubmitJobs(pb.SubmitJobsRequest(items=[item] * 300))
        assert {result.error.code for result in answer.results} == {grpc.StatusCode.UNAVAILABLE.value[0]}
        raise_unavailable()

    return {
        "SubmitJob": plane.submit,
        "SubmitJobs": submit_many,
        "GetJob": lambda: plane.get(job_id),
        "CancelJob": lambda: plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id)),
        "ListExecutions": lambda: plane.jobs.ListExecutions(pb.ListExecutionsRequest(job_id=job_id)),
        "RedriveDeadLetters": lambda: plane.operators.RedriveDeadLetters(
            pb.RedriveDeadLettersRequest(job_ids=[job_id])
        ),
        "ListQueues": lambda: plane.operators.ListQueues(pb.ListQueuesRequest()),
    }


class AllUnavailable(Exception):
    """Every item of a list was told so."""


def raise_unavailable() -> None:
    raise AllUnavailable


async def unavailable_in_time(plane: ControlPlane, job_id: str, *names: str) -> None:
    """All calls at once, as a server has them."""

    async def one(name: str, call: Call) -> None:
        started = time.monotonic()
        with pytest.raises((grpc.aio.AioRpcError, AllUnavailable)) as refused:
            await call()
        took_s = time.monotonic() - started
        assert took_s < IN_TIME_S + SLACK_S, f"{name} took {took_s:.2f} s"
        if isinstance(refused.value, grpc.aio.AioRpcError):
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, name
            assert [type(detail) for detail in details(refused.value)] == [error_details_pb2.RetryInfo], name

    await asyncio.gather(
        *(one(name, call) for name, call in calls(plane, job_id).items() if not names or name in names)
    )


async def works_again(plane: ControlPlane) -> None:
    async def submitted() -> bool:
        try:
            return bool((await plane.submit()).job_id)
        except grpc.aio.AioRpcError:
            return False

    await eventually(submitted)


async def test_a_database_that_refuses_connections_is_told_in_time(plane: ControlPlane, proxy: TcpProxy) -> None:
    job = await plane.submit()
    proxy.refuse()
    for _ in range(2):
        await unavailable_in_time(plane, job.job_id)
    proxy.accept_again()
    await works_again(plane)
    assert (await plane.get(job.job_id)).job_id == job.job_id


async def test_a_database_that_does_not_answer_is_told_in_time(plane: ControlPlane, proxy: TcpProxy) -> None:
    job = await plane.submit()
    await asyncio.gather(*(plane.get(job.job_id) for _ in range(20)))
    proxy.go_deaf()
    # First with connections that stood, then without.
    for _ in range(2):
        await unavailable_in_time(plane, job.job_id)
    proxy.hear_again()
    await works_again(plane)


async def test_calls_that_come_while_others_wait_for_a_deaf_database_do_not_wait_longer(
    plane: ControlPlane, proxy: TcpProxy
) -> None:
    job = await plane.submit()
    proxy.go_deaf()
    waves = []
    for _ in range(6):
        waves.append(asyncio.ensure_future(unavailable_in_time(plane, job.job_id, "SubmitJob", "GetJob")))
        await asyncio.sleep(0.4)
    await asyncio.gather(*waves)
    proxy.hear_again()
    await works_again(plane)


async def test_calls_that_find_no_database_let_their_payloads_go_at_once(plane: ControlPlane, proxy: TcpProxy) -> None:
    await plane.submit()
    proxy.refuse()
    with collected_late() as garbage:
        calls = [asyncio.ensure_future(plane.submit(payload=bytes(100_000))) for _ in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, grpc.aio.AioRpcError) for answer in answers)
        del calls, answers
        proxy.accept_again()
        await eventually_submitted(plane)
    assert not garbage.kinds & {"Submission", "NewJob", "_Waiting"}
    assert [frame for frame in garbage.frames if frame.startswith("transport")] == []


async def eventually_submitted(plane: ControlPlane) -> None:
    async def submitted() -> bool:
        try:
            await plane.submit()
        except grpc.aio.AioRpcError:
            return False
        return True

    await eventually(submitted)


async def test_backends_that_are_terminated_cost_no_job(plane: ControlPlane, database_url: str) -> None:
    async with sql(database_url) as session:
        accepted: list[str] = []

        async def submit(n: int) -> None:
            accepted.append((await plane.submit(idempotency_key=str(n))).job_id)

        for start in range(0, 200, 20):
            calls = [asyncio.ensure_future(submit(n)) for n in range(start, start + 20)]
            await session.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and application_name like 'dispatchd%'"
            )
            await asyncio.gather(*calls, return_exceptions=True)
        stored = {row["job_id"] for row in await session.fetch("select job_id from jobs")}
    assert {parse_job_id(text) for text in accepted} <= stored
    assert len(accepted) > 100
    await works_again(plane)


# --- the pool -------------------------------------------------------------------------------------------------------


async def test_a_statement_that_is_cancelled_or_times_out_leaves_no_connection_behind(
    database_url: str, through: str, proxy: TcpProxy
) -> None:
    async with open_stores(through, connections=2) as stores, sql(database_url) as session:
        [job] = await insert(stores, new_job())
        for work in (lambda: insert(stores, new_job()), lambda: stores.jobs.cancel(job.view.job_id, FENCE)):
            async with session.transaction():
                await session.execute("lock table jobs in access exclusive mode")
                tasks = [asyncio.create_task(_quietly(work())) for _ in range(2)]
                await until_waiting(session, 2)
                for task in tasks:
                    task.cancel()
                done, _ = await asyncio.wait(tasks, timeout=1.0)
                assert done == set(tasks)
                assert all(task.cancelled() for task in tasks)
            # Both connections are there again.
            await asyncio.gather(*(stores.jobs.get(job.view.job_id) for _ in range(4)))


async def test_a_transaction_on_a_deaf_connection_ends_when_it_is_cancelled(
    database_url: str, through: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_long_for_locks(monkeypatch)
    async with open_stores(through, connections=1) as stores, sql(database_url) as session:
        [job] = await insert(stores, new_job())
        async with session.transaction():
            await session.execute("select 1 from jobs for update")
            task = asyncio.create_task(_quietly(stores.jobs.cancel(job.view.job_id, FENCE)))
            await until_waiting(session)
            proxy.go_deaf()
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=1.0)
            assert done == {task}
            assert task.cancelled()
        proxy.hear_again()
        await stores.jobs.get(job.view.job_id)


async def test_a_transaction_on_a_deaf_connection_fails_in_time_and_the_next_one_works(
    database_url: str, through: str, proxy: TcpProxy
) -> None:
    async with open_stores(through, connections=1) as stores:
        hands = await register(stores)
        await insert(stores, new_job())
        held = await hands.claim_one()
        proxy.go_deaf()
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            await stores.settlements.settle([held.execution_id], lambda locked: [], FENCE)
        assert time.monotonic() - started < IN_TIME_S + SLACK_S
        assert stores.database.last_failure_at is not None
        assert stores.database.last_failure_at >= started
        proxy.hear_again()
        await stores.settlements.settle([held.execution_id], lambda locked: [], FENCE)


async def test_a_refused_transaction_is_rolled_back_and_its_connection_goes_on(database_url: str) -> None:
    async with open_stores(database_url, connections=1) as stores:
        hands = await register(stores)
        await insert(stores, new_job())
        held = await hands.claim_one()

        def fails(_: object) -> list[object]:
            raise KeyError("a defect in between")

        with pytest.raises(KeyError):
            await stores.settlements.settle([held.execution_id], fails, FENCE)  # type: ignore[arg-type]
        async with sql(database_url) as session:
            await session.execute("set lock_timeout = '1s'; select 1 from executions for update")
            pid = await session.fetchval("select pid from pg_stat_activity where application_name = 'stores'")
        await stores.jobs.get(held.job_id)
        async with sql(database_url) as session:
            assert await session.fetchval("select pid from pg_stat_activity where application_name = 'stores'") == pid


async def test_a_value_that_the_driver_refuses_is_no_outage(database_url: str) -> None:
    async with open_stores(database_url, connections=1) as stores:
        with pytest.raises(BatchRejected) as refused:
            await stores.jobs.insert([new_job(priority=2**40)], FENCE)
        assert refused.value.is_fault_of_the_item
        assert stores.database.last_failure_at is None
        await insert(stores, new_job())


async def _quietly(work: Awaitable[object]) -> object:
    return await work
