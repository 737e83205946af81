"""A key stands for one job, whoever sends it, how often, at the same moment, and through whatever connection."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import asyncpg
import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on
from dispatchd.adapters.postgres.jobs import PostgresJobStore
from dispatchd.application.ports import Demand, ReadyEntry, StoredJob
from dispatchd.application.submit_jobs import SubmitJobs
from dispatchd.domain.ids import IdGenerator
from dispatchd.domain.region import RegionFence
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.domain.submission import NewJob, Submission
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import FENCE, Stores, insert, new_job, open_stores, register, running, sql, wait_long_for_locks
from tcp_proxy import proxy_to
from waiting import eventually, until_done, until_waiting


@pytest.fixture(autouse=True)
def _a_dead_lock_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long_for_locks(monkeypatch)


def use_case(stores: Stores, store: PostgresJobStore | None = None) -> SubmitJobs:
    return SubmitJobs(
        store or stores.jobs, stores.announcer, stores.region, IdGenerator(), queue_items=1_000, queue_bytes=2**26
    )


def code_of(answer: object) -> grpc.StatusCode | None:
    return answer.code() if isinstance(answer, grpc.aio.AioRpcError) else None


async def test_the_same_request_returns_the_first_job_as_it_is_now(database_url: str, redis_address: str) -> None:
    async with control_plane_on(database_url, redis_address) as plane, open_stores(database_url) as stores:
        first = await plane.submit(idempotency_key="k", metadata={"a": "b"})
        assert await plane.submit(idempotency_key="k", metadata={"a": "b"}) == first
        hands = await register(stores)
        claimed = await hands.claim_one()
        again = await plane.submit(idempotency_key="k", metadata={"a": "b"})
        assert (again.job_id, again.status) == (first.job_id, pb.JOB_STATUS_DISPATCHING)
        await hands.end(Succeeded(b"done"), claimed.execution_id)
        again = await plane.submit(idempotency_key="k", metadata={"a": "b"})
        assert again == await plane.get(first.job_id)
        assert (again.status, again.result) == (pb.JOB_STATUS_SUCCEEDED, b"done")
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from executions") == 1


async def test_another_request_with_the_key_is_refused_and_the_job_is_named(
    database_url: str, redis_address: str
) -> None:
    async with control_plane_on(database_url, redis_address) as plane:
        first = await plane.submit(idempotency_key="k")
        for other in ({"payload": b"[]"}, {"priority": 1}, {"metadata": {"a": ""}}):
            with pytest.raises(grpc.aio.AioRpcError, match=first.job_id) as refused:
                await plane.submit(idempotency_key="k", **other)
            assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        # A policy that says what the defaults say is the same request; a set timeout never is.
        policy = pb.RetryPolicy(max_attempts=3)
        assert (await plane.submit(idempotency_key="k", retry_policy=policy)).job_id == first.job_id
        timeout = pb.SubmitJobRequest(job_type="email.send", payload=b"{}", idempotency_key="k")
        timeout.timeout.FromSeconds(24 * 3600)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await plane.jobs.SubmitJob(timeout)
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_twenty_equal_keys_at_the_same_moment_in_two_processes_make_one_job(
    database_url: str, redis_address: str
) -> None:
    async with (
        control_plane_on(database_url, redis_address) as east,
        control_plane_on(database_url, redis_address) as west,
        sql(database_url) as session,
    ):
        # Somebody holds the key, so that both processes have a batch under way when it is let go.
        holding = session.transaction()
        await holding.start()
        await insert_row(session, new_job(key="k"))
        calls = [asyncio.ensure_future(plane.submit(idempotency_key="k")) for plane in [east, west] * 10]
        await until_waiting(session, 2)
        await holding.rollback()
        jobs = await until_done(asyncio.gather(*calls))
        assert len({job.job_id for job in jobs}) == 1
        assert await counts(database_url) == (1, 1, 1)
        assert await deadlocks(database_url) == 0


async def test_equal_keys_with_different_requests_at_the_same_moment_have_one_winner(
    database_url: str, redis_address: str
) -> None:
    async with (
        control_plane_on(database_url, redis_address) as east,
        control_plane_on(database_url, redis_address) as west,
    ):

        async def submit(plane: ControlPlane, n: int) -> pb.Job:
            return await plane.submit(idempotency_key="k", payload=str(n).encode())

        answers = await asyncio.gather(
            *(submit(plane, n) for n, plane in enumerate([east, west] * 10)), return_exceptions=True
        )
        [winner] = [answer for answer in answers if isinstance(answer, pb.Job)]
        losers = [answer for answer in answers if answer is not winner]
        assert {code_of(loser) for loser in losers} == {grpc.StatusCode.ALREADY_EXISTS}
        assert all(winner.job_id in str(loser) for loser in losers)
    assert await counts(database_url) == (1, 1, 1)


@pytest.mark.parametrize("held", [0, 1])
async def test_two_batches_with_the_same_keys_in_opposite_order_do_not_dead_lock(database_url: str, held: int) -> None:
    one = [new_job(key="k1"), new_job(key="k2")]
    other = [new_job(key="k2"), new_job(key="k1")]
    async with open_stores(database_url) as east, open_stores(database_url) as west, sql(database_url) as session:
        holding = session.transaction()
        await holding.start()
        await insert_row(session, new_job(key=f"k{held + 1}"))
        batches = [
            asyncio.ensure_future(store.jobs.insert(jobs, FENCE)) for store, jobs in ((east, one), (west, other))
        ]
        await until_waiting(session, 2)
        await holding.rollback()
        of_east, of_west = await until_done(asyncio.gather(*batches))
    assert ids_of(of_east) == ids_of(of_west)[::-1]
    assert await counts(database_url) == (2, 2, 2)
    assert await deadlocks(database_url) == 0


async def test_equal_keys_in_one_call_behave_as_in_two_calls(database_url: str, redis_address: str) -> None:
    sent = [
        pb.SubmitJobRequest(job_type="email", payload=payload, idempotency_key=key)
        for key, payload in (("k", b"1"), ("k", b"1"), ("k", b"2"), ("l", b"1"), ("", b"1"), ("", b"1"))
    ]
    request = pb.SubmitJobsRequest(items=[pb.SubmitJobsItem(request=each) for each in sent])
    async with control_plane_on(database_url, redis_address) as plane:
        for _ in range(2):
            first, same, different, other, *keyless = (await plane.jobs.SubmitJobs(request, timeout=15.0)).results
            assert first.job.job_id == same.job.job_id != other.job.job_id
            assert different.error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
            assert first.job.job_id in different.error.message
            assert len({result.job.job_id for result in keyless}) == 2
    assert await counts(database_url) == (6, 6, 6)


async def test_a_commit_whose_answer_is_lost_is_not_done_twice(database_url: str) -> None:
    address = urlsplit(database_url).netloc.rpartition("@")[2]
    async with proxy_to(address) as proxy:
        async with open_stores(database_url.replace(address, f"127.0.0.1:{proxy.port}")) as stores:
            submit = use_case(stores)
            async with running(submit.commits.run()):
                keyless = Submission("email.send", b"{}")
                keyed = Submission("email.send", b"{}", idempotency_key="k")
                for submission in (keyless, keyed):
                    # The tag of the finished statement comes with the news that it is committed.
                    proxy.cut_once_before(lambda answer: b"SELECT 1\0" in answer)
                    view = await submit.submit(submission)
                    assert (await stores.jobs.get(view.job_id)).job_id == view.job_id
        assert proxy.cuts == 2
    assert await counts(database_url) == (2, 2, 2)


async def test_a_batch_whose_answer_is_lost_is_announced_all_the_same(database_url: str, redis_address: str) -> None:
    address = urlsplit(database_url).netloc.rpartition("@")[2]
    async with proxy_to(address) as proxy:
        through_proxy = database_url.replace(address, f"127.0.0.1:{proxy.port}")
        async with open_stores(through_proxy, redis_address) as stores:
            submit = use_case(stores)
            async with running(submit.commits.run(), stores.announcer.run()):
                await stores.queue.mark_complete(1)
                proxy.cut_once_before(lambda answer: b"SELECT 1\0" in answer)
                await submit.submit(Submission("email.send", b"{}"))
                assert proxy.cuts == 1

                async def popped() -> bool:
                    [entries] = await stores.queue.pop([Demand(("email",), 1)], 1)
                    return len(entries) == 1

                await eventually(popped)


async def test_a_repeat_announces_a_job_that_was_stored_and_not_announced(
    database_url: str, redis_address: str
) -> None:
    """As after a try whose process was cut off from the database, or killed, between the commit and its answer."""
    ready, claimed = new_job(key="ready"), new_job(key="claimed")
    async with open_stores(database_url, redis_address) as stores:
        await insert(stores, claimed)
        await (await register(stores)).claim_one()
        await insert(stores, ready)
        submit = use_case(stores)
        async with running(submit.commits.run(), stores.announcer.run()):
            await stores.queue.mark_complete(1)
            for job in (claimed, ready):
                await submit.submit(job.submission)

            async def popped() -> list[ReadyEntry]:
                [entries] = await stores.queue.pop([Demand(("email",), 2)], 1)
                return entries

            assert [entry.execution_id for entry in await eventually(popped)] == [ready.execution_id]


async def test_a_key_whose_job_vanishes_meanwhile_is_tried_again(database_url: str) -> None:
    class RetentionComesBetween(PostgresJobStore):
        """The first job with the key is deleted after the insert met it and before it was read."""

        comes = True

        async def insert(self, jobs: Sequence[NewJob], fence: RegionFence) -> list[StoredJob | None]:
            stored = await super().insert(jobs, fence)
            if self.comes:
                self.comes = False
                async with sql(database_url) as session:
                    await session.execute("delete from jobs; delete from executions; delete from job_inputs")
                return [None for _ in stored]
            return stored

    async with open_stores(database_url) as stores:
        await insert(stores, new_job(key="k", payload=b"first"))
        submit = use_case(stores, RetentionComesBetween(stores.database))
        async with running(submit.commits.run()):
            view = await submit.submit(Submission("email.send", b"second", idempotency_key="k"))
        assert (await stores.jobs.get(view.job_id)).payload == b"second"
    assert await counts(database_url) == (1, 1, 1)


async def test_a_key_is_free_again_when_its_job_is_gone(database_url: str) -> None:
    async with open_stores(database_url) as stores:
        [first] = await insert(stores, new_job(key="k"))
        hands = await register(stores)
        await hands.fail_until_dead(Failed("no"), first.view.job_id)
        async with sql(database_url) as session:
            await session.execute("delete from jobs; delete from executions; delete from job_inputs")
        [second] = await insert(stores, new_job(key="k", payload=b"other"))
        assert second.view.job_id != first.view.job_id


async def insert_row(session: "asyncpg.Connection[asyncpg.Record]", job: NewJob) -> None:
    """A job of the key, in the test's own transaction."""
    await session.execute(
        "insert into jobs (job_id, job_type, capability, priority, state, idempotency_key, key_digest, request_digest, "
        "max_attempts, initial_backoff_us, max_backoff_us, created_at, updated_at) "
        "values ($1, 'a', 'a', 0, 'active', $2, $3, $4, 1, 0, 0, now(), now())",
        job.job_id,
        job.submission.idempotency_key,
        job.key_digest,
        job.request_digest,
    )


def ids_of(stored: Sequence[StoredJob | None]) -> list[object]:
    return [job and job.view.job_id for job in stored]


async def counts(database_url: str) -> tuple[int, int, int]:
    """Jobs, inputs and executions."""
    async with sql(database_url) as session:
        row = await session.fetchrow(
            "select (select count(*) from jobs), (select count(*) from job_inputs), (select count(*) from executions)"
        )
        assert row is not None
        return tuple(row)


async def deadlocks(database_url: str) -> int:
    async with sql(database_url) as session:
        await session.execute("select pg_stat_force_next_flush()")
        found: int = await session.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
        return found
