"""WaitJob: answered when the job ends, with Redis and without, before the caller's deadline, and cheaply."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from control_planes import control_plane_on, details
from dispatchd.adapters.postgres.jobs import PostgresJobStore
from dispatchd.application import wait_job
from dispatchd.application.wait_job import WaitJob
from dispatchd.domain.errors import JobNotFound, Overloaded
from dispatchd.domain.ids import JobId
from dispatchd.domain.job import JobStatus
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import Stores, ids, insert, new_job, open_stores, register, running
from waiting import eventually, until, until_done

LONG = timedelta(seconds=30)


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address) as stores:
        yield stores


class CountingStore(PostgresJobStore):
    """Counts the looks, and how many jobs each was for."""

    looks: list[int]

    async def finished_among(self, job_ids: Sequence[JobId]) -> set[JobId]:
        self.looks.append(len(job_ids))
        return await super().finished_among(job_ids)


def counting(stores: Stores) -> CountingStore:
    store = CountingStore(stores.database)
    store.looks = []
    return store


async def test_a_waiter_is_woken_by_the_commit_that_ends_the_job(
    database_url: str, redis_address: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(hours=1))
    async with control_plane_on(database_url, redis_address) as plane, running(stores.announcer.run()):
        job = await plane.submit()
        call = asyncio.ensure_future(plane.jobs.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=30.0))
        hands = await register(stores)
        # A cancel of another job is announced over the same channel, so the subscription stands once it is heard.
        other = await plane.submit()
        first = asyncio.ensure_future(plane.jobs.WaitJob(pb.WaitJobRequest(job_id=other.job_id), timeout=30.0))
        await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=other.job_id))
        assert (await until_done(first)).job.status == pb.JOB_STATUS_CANCELED
        await hands.end(Succeeded(b"42"), (await hands.claim_one()).execution_id)
        ended = (await until_done(call)).job
    assert (ended.job_id, ended.status, ended.result) == (job.job_id, pb.JOB_STATUS_SUCCEEDED, b"42")


async def test_that_somebody_waits_is_said_at_once_and_about_once_a_second(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(seconds=0.01))
    monkeypatch.setattr(wait_job, "SAY_EVERY", timedelta(hours=1))
    said: list[float] = []
    waits = WaitJob(stores.jobs, lambda: said.append(time.monotonic()), most_waiters=10)
    [first, second] = await insert(stores, new_job(), new_job())
    async with running(waits.run()):
        calls = [asyncio.ensure_future(waits.wait(job.view.job_id, LONG, None)) for job in (first, second)]
        await asyncio.sleep(0)
        assert len(said) == 1
        monkeypatch.setattr(wait_job, "SAY_EVERY", timedelta(seconds=0))
        await until(lambda: len(said) >= 3)
        waits.release_all()
        await until_done(asyncio.gather(*calls))
        said.clear()
        await asyncio.sleep(0.1)
        assert not said, "nobody waits any more"


async def test_without_redis_a_waiter_is_woken_by_the_look_for_all(
    database_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(seconds=0.05))
    async with control_plane_on(database_url, "127.0.0.1:1") as plane:
        job = await plane.submit()
        call = asyncio.ensure_future(plane.jobs.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=30.0))
        hands = await register(stores)
        await hands.end(Failed("no", do_not_retry=True), (await hands.claim_one()).execution_id)
        assert (await until_done(call)).job.status == pb.JOB_STATUS_FAILED


async def test_a_job_that_has_ended_is_answered_at_once_however_many_are_asked_for(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(hours=1))
    jobs = await insert(stores, *(new_job() for _ in range(20)))
    hands = await register(stores)
    await hands.end(Succeeded(), *(execution.execution_id for execution in await hands.claim(20)))
    waits = WaitJob(stores.jobs, stores.announcer.somebody_waits, most_waiters=10)
    async with running(waits.run()):
        for job in jobs:
            view = await until_done(asyncio.ensure_future(waits.wait(job.view.job_id, LONG, None)), longest_s=0.4)
            assert view.status is JobStatus.SUCCEEDED
        with pytest.raises(JobNotFound):
            await until_done(asyncio.ensure_future(waits.wait(ids.job_id(), LONG, None)), longest_s=0.4)


async def test_a_thousand_waiters_cost_one_look_in_the_interval(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_job, "LOOK_EVERY", timedelta(seconds=0.2))
    store = counting(stores)
    waits = WaitJob(store, stores.announcer.somebody_waits, most_waiters=10_000)
    jobs = await insert(stores, *(new_job() for _ in range(1_000)))
    async with running(waits.run()):
        calls = [asyncio.ensure_future(waits.wait(job.view.job_id, LONG, None)) for job in jobs]
        await until(lambda: store.looks[-1:] == [1_000])
        # Whatever the thousand cost at their arrival is over.
        assert len(store.looks) <= 5
        started, before = time.monotonic(), len(store.looks)
        await until(lambda: len(store.looks) >= before + 5)
        assert len(store.looks) - before <= (time.monotonic() - started) / 0.2 + 1
        waits.release_all()
        views = await until_done(asyncio.gather(*calls))
    assert {view.status for view in views} == {JobStatus.PENDING}


async def test_several_wait_for_one_job_and_all_are_woken(stores: Stores) -> None:
    waits = WaitJob(stores.jobs, stores.announcer.somebody_waits, most_waiters=10)
    [job] = await insert(stores, new_job())
    async with running(waits.run()):
        calls = [asyncio.ensure_future(waits.wait(job.view.job_id, LONG, None)) for _ in range(3)]
        await asyncio.sleep(0)
        await stores.jobs.cancel(job.view.job_id, stores.region.fence)
        waits.finished([job.view.job_id])
        assert {view.status for view in await until_done(asyncio.gather(*calls))} == {JobStatus.CANCELED}


@pytest.mark.parametrize("timeout_s", [0.5, 0.1])
async def test_an_answer_comes_before_the_deadline_with_the_job_as_it_is(
    database_url: str, redis_address: str, timeout_s: float
) -> None:
    async with control_plane_on(database_url, redis_address) as plane:
        job = await plane.submit()
        started = time.monotonic()
        answer = await plane.jobs.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=timeout_s)
        assert answer.job == job
        assert max(0.0, timeout_s - 0.25) <= time.monotonic() - started < timeout_s


async def test_an_answer_comes_when_the_wait_is_over(database_url: str, redis_address: str) -> None:
    async with control_plane_on(database_url, redis_address) as plane:
        job = await plane.submit()
        for wait_s, longest_s in ((0.2, 5.0), (0.0, 1.0), (-5.0, 1.0)):
            request = pb.WaitJobRequest(job_id=job.job_id)
            request.wait.FromTimedelta(timedelta(seconds=wait_s))
            started = time.monotonic()
            assert (await plane.jobs.WaitJob(request)).job == job
            assert max(wait_s, 0.0) <= time.monotonic() - started < longest_s


async def test_too_many_waiters_are_refused_with_the_time_to_try_again(database_url: str, redis_address: str) -> None:
    async with control_plane_on(database_url, redis_address, WAITERS_LIMIT="2") as plane:
        job = await plane.submit()
        request = pb.WaitJobRequest(job_id=job.job_id)
        waiting = [asyncio.ensure_future(plane.jobs.WaitJob(request, timeout=20.0)) for _ in range(3)]
        done, rest = await asyncio.wait(waiting, return_when="FIRST_COMPLETED")
        [refused] = [call.exception() for call in done]
        assert isinstance(refused, grpc.aio.AioRpcError)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [type(detail) for detail in details(refused)] == [error_details_pb2.RetryInfo]
        for call in rest:
            call.cancel()
        await asyncio.wait(rest)

        # Whoever has gone makes room.
        async def has_room() -> bool:
            try:
                await plane.jobs.WaitJob(request, timeout=0.3)
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(has_room)


async def test_the_bound_holds_for_the_use_case_itself(stores: Stores) -> None:
    waits = WaitJob(stores.jobs, stores.announcer.somebody_waits, most_waiters=1)
    [job] = await insert(stores, new_job())
    call = asyncio.ensure_future(waits.wait(job.view.job_id, LONG, None))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await waits.wait(job.view.job_id, LONG, None)
    waits.release_all()
    assert (await until_done(call)).status is JobStatus.PENDING


async def test_a_stopping_server_answers_its_waiters(database_url: str, redis_address: str) -> None:
    async with control_plane_on(database_url, redis_address, SHUTDOWN_TIMEOUT_SECONDS="10") as plane:
        job = await plane.submit()
        call = asyncio.ensure_future(plane.jobs.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=30.0))
        # A later call is answered, so the earlier one has arrived.
        await plane.get(job.job_id)
    assert (await until_done(call)).job == job
