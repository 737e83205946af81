"""Every statement that writes compares with the region row itself: what is refused changes nothing at all."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import asyncpg
import grpc
import grpc.aio
import pytest

from control_planes import control_plane_on
from dispatchd.adapters.postgres import queries
from dispatchd.adapters.postgres.queries import Query
from dispatchd.application.ports import (
    Completion,
    Decision,
    LockedExecution,
    NewSession,
    NotPermitted,
    Offer,
    ReadyEntry,
    Renewal,
)
from dispatchd.domain.ids import ExecutionId
from dispatchd.domain.job import JobState
from dispatchd.domain.region import RegionFence
from dispatchd.domain.settlement import Failed, Succeeded
from dispatchd.domain.worker import Registration, WorkerStatus
from dispatchd.telemetry.metrics import REGISTRY
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import (
    FENCE,
    LEASE,
    LONGEST,
    Stores,
    from_now,
    ids,
    insert,
    new_job,
    open_stores,
    register,
    sql,
)
from waiting import until

Session = asyncpg.Connection
Operation = Callable[[RegionFence], Awaitable[object]]

NEW_WORK = {"insert", "claim", "claim without Redis", "redrive"}
TABLES = ("jobs", "job_inputs", "executions", "worker_sessions", "workers", "region")

# Written in a transaction in which another statement has compared with the row, or before one that does.
IN_A_FENCED_TRANSACTION = {
    "upsert_worker": "insert_session follows",
    "move_executions": "insert_session came before",
    "supersede_sessions": "insert_session came before",
    "delete_jobs": "lock_finished_jobs came before",
}
THE_ROW_ITSELF = {"make_region", "change_region"}


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


async def everything(session: "Session[asyncpg.Record]") -> list[list[str]]:
    """All rows of all tables."""
    return [
        [row["text"] for row in await session.fetch(f"select t::text as text from {table} t order by t::text")]
        for table in TABLES
    ]


async def work_of_every_kind(stores: Stores, session: "Session[asyncpg.Record]") -> dict[str, Operation]:
    """Operations each of which would change something."""
    hands = await register(stores)
    await register(stores, "gone")
    jobs = await insert(stores, *(new_job() for _ in range(9)))
    held = await hands.claim(5)
    await hands.end(Failed("no", do_not_retry=True), held[0].execution_id)
    await hands.end(Succeeded(b"1"), held[1].execution_id)
    await insert(stores, new_job(run_at=from_now(hours=1)))
    await session.execute("update executions set due_at = now() where state = 'waiting'")
    await session.execute("update worker_sessions set lease_expires_at = now() where worker_id = 'gone'")
    long_gone = await register(stores, "long gone")
    await session.execute(
        "update worker_sessions set ended_at = now() - interval '1 year' where session_id = $1", long_gone.session_id
    )
    ready = await stores.recovery.ready_page("email", None, 10)
    dead = held[0].job_id
    started = {held[2].execution_id: timedelta(0)}

    def offers(entries: Sequence[ReadyEntry]) -> list[Offer]:
        return [Offer(each, hands.session_id) for each in entries]

    new = NewSession(ids.session_id(), Registration("other", ("email",), 1), "anonymous", "gateway-1", "peer", LEASE)
    again = Registration("worker-1", ("email", "report"), 7)
    return {
        "insert": lambda fence: stores.jobs.insert([new_job()], fence),
        "cancel": lambda fence: stores.jobs.cancel(jobs[8].view.job_id, fence),
        "redrive": lambda fence: stores.jobs.redrive([(dead, ids.execution_id())], fence),
        "claim": lambda fence: stores.claims.claim(offers(ready[:1]), LONGEST, 1_000, fence),
        "claim without Redis": lambda fence: stores.claims.claim_best(["email"], 1, offers, LONGEST, 1_000, fence),
        "success": lambda fence: stores.settlements.complete(
            [Completion(held[4].execution_id, hands.session_id, Succeeded(b"1"))], fence
        ),
        "result": lambda fence: succeed(stores, held[3].execution_id, fence),
        "open": lambda fence: stores.sessions.open(new, lambda omitted, is_same: [], fence),
        "update registration": lambda fence: stores.sessions.update_registration(hands.session_id, again, fence),
        "renew": lambda fence: stores.sessions.renew(
            [Renewal(hands.session_id, "worker-1", WorkerStatus.BUSY, started)], LEASE, fence
        ),
        "close": lambda fence: stores.sessions.close([hands.session_id], fence),
        "queue what is due": lambda fence: stores.recovery.queue_due(10, fence),
        "end sessions": lambda fence: stores.recovery.end_expired_sessions(10, fence),
        "delete jobs": lambda fence: stores.recovery.delete_finished([JobState.SUCCEEDED], timedelta(0), 10, fence),
        "delete sessions": lambda fence: stores.recovery.delete_sessions_and_workers(timedelta(days=1), 10, fence),
    }


async def succeed(stores: Stores, execution_id: ExecutionId, fence: RegionFence) -> None:
    def decide(locked: Sequence[LockedExecution]) -> list[Decision]:
        return [stores.settler.decision(each, Succeeded(b"1")) for each in locked]

    await stores.settlements.settle([execution_id], decide, fence)


@pytest.mark.parametrize(
    ("row", "fence", "refused"),
    [
        ("mode = 'active'", FENCE, set()),
        ("mode = 'active'", RegionFence("local", 1), set()),
        ("mode = 'draining'", FENCE, NEW_WORK),
        ("primary_region = 'elsewhere', epoch = 2", FENCE, None),
        ("epoch = 2", RegionFence("local", 1), None),
        ("epoch = 1", RegionFence("local", 2), None),
    ],
    ids=["active", "its epoch", "draining", "passive", "an earlier epoch", "a later epoch"],
)
async def test_what_the_row_refuses_changes_nothing_and_the_rest_goes_in(
    stores: Stores, session: "Session[asyncpg.Record]", row: str, fence: RegionFence, refused: set[str] | None
) -> None:
    operations = await work_of_every_kind(stores, session)
    await session.execute(f"update region set {row}")
    for name, operation in operations.items():
        before = await everything(session)
        if refused is None or name in refused:
            with suppress(NotPermitted):
                answer = await operation(fence)
                assert not answer, f"{name} answered {answer!r}"
            assert await everything(session) == before, name
        else:
            await operation(fence)
            assert await everything(session) != before, name


async def test_the_epochs_of_the_row_and_of_the_environment_are_told_side_by_side(database_url: str) -> None:
    def told(source: str) -> float | None:
        return REGISTRY.get_sample_value("dispatchd_region_epoch", {"source": source})

    async with open_stores(database_url, fence=RegionFence("local", 7)) as stores, sql(database_url) as session:
        assert (told("row"), told("environment")) == (1.0, 7.0)
        await session.execute("update region set epoch = 7")
        await stores.region.look()
        assert (told("row"), told("environment")) == (7.0, 7.0)


def all_queries() -> list[Query]:
    return [
        query
        for each in vars(queries).values()
        if isinstance(each, dict)
        for query in each.values()
        if isinstance(query, Query)
    ]


def test_every_statement_that_writes_names_the_region_row() -> None:
    found = all_queries()
    assert len(found) > 50
    unfenced = {
        query.name
        for query in found
        if re.search(r"\b(insert into|update|delete from) [a-z_]+\b", re.sub("for (no key )?update", "", query.sql))
        and not re.search(r"\bfrom region\b", query.sql)
    }
    assert unfenced - THE_ROW_ITSELF == set(IN_A_FENCED_TRANSACTION)


async def test_a_passive_or_draining_control_plane_says_so_and_names_the_primary(
    database_url: str, redis_address: str, session: "Session[asyncpg.Record]"
) -> None:
    async with control_plane_on(database_url, redis_address) as plane:
        job = await plane.submit()
        changes: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("submit", plane.submit),
            (
                "submit many",
                lambda: plane.jobs.SubmitJobs(
                    pb.SubmitJobsRequest(
                        items=[pb.SubmitJobsItem(request=pb.SubmitJobRequest(job_type="a", payload=b"1"))]
                    )
                ),
            ),
            ("redrive", lambda: plane.operators.RedriveDeadLetters(pb.RedriveDeadLettersRequest(job_ids=[job.job_id]))),
            ("cancel", lambda: plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job.job_id))),
        ]
        reads: list[Callable[[], Awaitable[object]]] = [
            lambda: plane.get(job.job_id),
            lambda: plane.jobs.WaitJob(pb.WaitJobRequest(job_id=job.job_id, wait=timedelta(0))),
            lambda: plane.jobs.ListExecutions(pb.ListExecutionsRequest(job_id=job.job_id)),
            lambda: plane.operators.ListQueues(pb.ListQueuesRequest()),
        ]
        # The process does not know yet, and the database refuses; then it knows.
        for _ in range(2):
            await session.execute("update region set primary_region = 'elsewhere', epoch = 2")
            for name, change in changes:
                with pytest.raises(grpc.aio.AioRpcError, match="elsewhere") as refused:
                    await change()
                assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION, name
            for read in reads:
                await read()
        await session.execute("update region set primary_region = 'local', mode = 'draining', epoch = 3")
        await until(lambda: plane.backends.region.row.epoch == 3)
        for name, change in changes[:3]:
            with pytest.raises(grpc.aio.AioRpcError, match="draining") as refused:
                await change()
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION, name
        await changes[3][1]()
        assert (await plane.get(job.job_id)).status == pb.JOB_STATUS_CANCELED
        await session.execute("update region set mode = 'active', epoch = 4")
        await until(lambda: plane.backends.region.takes_work)
        await plane.submit()
