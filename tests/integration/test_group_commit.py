"""Group commit on the real database: one bad item among 255 good ones, for submits, claims and results."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import grpc.aio
import pytest
import redis.asyncio
from google.rpc import error_details_pb2

from control_planes import control_plane_on, details
from dispatchd.application.gateway.claimer import Claimer
from dispatchd.application.gateway.messages import Ack, Outcome, Report
from dispatchd.application.gateway.reports import ReportCollector
from dispatchd.application.gateway.session import WorkerSession
from dispatchd.domain.ids import ExecutionId, format_execution_id
from dispatchd.domain.settlement import Ending, Failed, Succeeded
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import LEASE, LONGEST, PREFIX, Hands, Stores, insert, new_job, open_stores, register, running, sql
from waiting import eventually, until, until_done, until_waiting

MANY = 256
RAISES = """
create function refuse() returns trigger language plpgsql as $$
begin raise exception 'refused by the test' using errcode = '{sqlstate}'; end $$;
create trigger refuse before {event} for each row when ({condition}) execute function refuse();
"""


@pytest.fixture
async def stores(database_url: str, redis_address: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url, redis_address) as stores:
        yield stores


async def refuse_when(database_url: str, event: str, condition: str, sqlstate: str = "P0001") -> None:
    async with sql(database_url) as session:
        await session.execute(RAISES.format(event=event, condition=condition, sqlstate=sqlstate))


def session_of(hands: Hands) -> WorkerSession:
    """The gateway's view of a session."""
    session = WorkerSession(hands.session_id, hands.registration, "anonymous", "peer", LEASE)
    session.opened(asyncio.get_running_loop().time(), {}, {})
    return session


# --- submit ---------------------------------------------------------------------------------------------------------


def mixed(bad: bytes, at: int) -> pb.SubmitJobsRequest:
    payloads = [bad if n == at else b"good" for n in range(MANY)]
    return pb.SubmitJobsRequest(
        items=[pb.SubmitJobsItem(request=pb.SubmitJobRequest(job_type="email", payload=each)) for each in payloads]
    )


@pytest.mark.parametrize("sqlstate", ["23514", "54000"])
async def test_a_row_that_only_the_database_refuses_fails_alone(
    database_url: str, redis_address: str, sqlstate: str
) -> None:
    await refuse_when(database_url, "insert on job_inputs", "new.payload = 'bad'", sqlstate)
    async with control_plane_on(database_url, redis_address) as plane:
        results = (await plane.jobs.SubmitJobs(mixed(b"bad", 77), timeout=15.0)).results
        refused = [n for n, result in enumerate(results) if result.HasField("error")]
        assert refused == [77]
        assert results[77].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        with pytest.raises(grpc.aio.AioRpcError) as alone:
            await plane.submit(payload=b"bad")
        assert alone.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "refused by the test" not in (alone.value.details() or "")
    async with sql(database_url) as session:
        assert await session.fetchval("select count(*) from executions") == MANY - 1


async def test_a_failure_that_is_no_fault_of_the_item_is_unavailable_for_it_alone(
    database_url: str, redis_address: str
) -> None:
    await refuse_when(database_url, "insert on job_inputs", "new.payload = 'bad'", "42501")
    async with control_plane_on(database_url, redis_address) as plane:
        results = (await plane.jobs.SubmitJobs(mixed(b"bad", 255), timeout=15.0)).results
        assert [n for n, result in enumerate(results) if result.HasField("error")] == [255]
        assert results[255].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert results[255].error.retry_delay.seconds == 1


async def test_a_key_that_somebody_holds_fails_alone_and_the_others_do_not_wait_for_it(
    database_url: str, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine needs longer for the many others; the key is held until all are answered.
    monkeypatch.setattr("dispatchd.application.group_commit.ANSWER_WAIT", timedelta(seconds=10))
    request = mixed(b"", -1)
    request.items[13].request.idempotency_key = "held"
    async with control_plane_on(database_url, redis_address) as plane, sql(database_url) as session:
        async with session.transaction():
            held = new_job(key="held")
            await session.execute(
                "insert into jobs (job_id, job_type, capability, priority, state, idempotency_key, key_digest, "
                "request_digest, max_attempts, initial_backoff_us, max_backoff_us, created_at, updated_at) "
                "values ($1, 'a', 'a', 0, 'active', 'held', $2, $3, 1, 0, 0, now(), now())",
                held.job_id,
                held.key_digest,
                held.request_digest,
            )
            results = (await plane.jobs.SubmitJobs(request, timeout=15.0)).results
        errors = {n: result.error.code for n, result in enumerate(results) if result.HasField("error")}
        assert errors == {13: grpc.StatusCode.UNAVAILABLE.value[0]}


async def test_a_full_queue_refuses_with_the_time_to_try_again(
    database_url: str, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatchd.application.group_commit.QUEUE_WAIT", timedelta(seconds=0.1))
    environ = {"SUBMIT_QUEUE_ITEMS": "8"}
    async with control_plane_on(database_url, redis_address, **environ) as plane, sql(database_url) as session:
        async with session.transaction():
            await session.execute("lock table jobs in exclusive mode")
            calls = [asyncio.ensure_future(plane.submit()) for _ in range(12)]
            await until_waiting(session)
            listed = await plane.jobs.SubmitJobs(mixed(b"", -1), timeout=15.0)
        single = await asyncio.gather(*calls, return_exceptions=True)
    errors = [answer for answer in single if isinstance(answer, grpc.aio.AioRpcError)]
    # On a slow machine the lock may outlast the patience with those that are in the queue: they are UNAVAILABLE.
    assert {error.code() for error in errors} <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    refusals = [error for error in errors if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert refusals
    for refused in refusals:
        [info] = details(refused)
        assert isinstance(info, error_details_pb2.RetryInfo)
        assert info.retry_delay.seconds == 1
    assert {result.error.code for result in listed.results} == {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]}
    assert {result.error.retry_delay.seconds for result in listed.results} == {1}


async def test_a_caller_who_has_gone_leaves_nothing_in_the_queue(database_url: str, redis_address: str) -> None:
    async with control_plane_on(database_url, redis_address) as plane, sql(database_url) as session:
        async with session.transaction():
            await session.execute("lock table jobs in exclusive mode")
            first = asyncio.ensure_future(plane.submit())
            await until_waiting(session)
            with pytest.raises(grpc.aio.AioRpcError):
                await plane.jobs.SubmitJobs(mixed(b"", -1), timeout=0.05)
        await until_done(first)
        await plane.submit()
        assert await session.fetchval("select count(*) from jobs") == 2


# --- claim ----------------------------------------------------------------------------------------------------------


async def test_strangers_in_the_ready_queue_and_a_row_that_raises_fail_alone(
    stores: Stores, database_url: str, redis_address: str
) -> None:
    jobs = [new_job() for _ in range(MANY)]
    await insert(stores, *jobs)
    bad = jobs[50].execution_id
    await refuse_when(database_url, "update on executions", f"new.execution_id = '{bad}' and new.state = 'claimed'")
    await stores.queue.mark_complete(1)
    async with running(stores.announcer.run()):
        stores.announcer.ready(await stores.recovery.ready_page("email", None, MANY))
        async with redis.asyncio.Redis.from_url(f"redis://{redis_address}") as client:
            queue = f"{PREFIX}:queue:email"
            await eventually(lambda: _full(client, queue))
            strangers = [b"", b"no id", b"\xff" * 48, b"f" * 48, b"0" * 48, b"{" * 48, b"0" * 16 + b"z" * 32]
            await client.zadd(queue, dict.fromkeys(strangers, -9.0))
            await client.zadd(queue, {b"stranger": float("-inf"), b"5" * 48: 0.5})
            hands = await register(stores, slots=1_000)
            session = session_of(hands)
            claimer = Claimer(stores.claims, stores.queue, stores.settler, stores.region, lambda: [session], LONGEST)
            async with running(claimer.run()):
                claimer.wake()
                await until(lambda: len(session.held) == MANY - 1)
            assert session.held.keys() == {job.execution_id for job in jobs} - {bad}
            # At the head of its queue it would be the next one again, for ever: the repairer brings it back, later.
            left = [bytes(member) for member in await client.zrange(queue, 0, -1) if isinstance(member, bytes)]
            assert not [member for member in left if member.endswith(bad.hex.encode())]
            assert not set(left) & set(strangers)
    async with sql(database_url) as look:
        states = await look.fetch("select state, count(*) from executions group by state order by state")
        assert [tuple(row) for row in states] == [("claimed", MANY - 1), ("queued", 1)]


async def _full(client: "redis.asyncio.Redis", queue: str) -> bool:
    return bool(await client.zcard(queue) == MANY)


# --- complete -------------------------------------------------------------------------------------------------------


def report_of(execution_id: ExecutionId, ending: Ending) -> Report:
    return Report(format_execution_id(execution_id), execution_id, ending, 100)


@pytest.mark.parametrize(
    ("event", "condition", "bad_ending"),
    [
        ("update on jobs", "new.result = 'bad'", Succeeded(b"bad")),
        ("update on executions", "new.error_message = 'bad'", Failed("bad")),
    ],
)
async def test_a_result_whose_row_raises_fails_alone(
    stores: Stores, database_url: str, event: str, condition: str, bad_ending: Ending
) -> None:
    await insert(stores, *(new_job() for _ in range(MANY)))
    hands = await register(stores)
    held = [execution.execution_id for execution in await hands.claim(MANY)]
    assert len(held) == MANY
    await refuse_when(database_url, event, condition)
    session = session_of(hands)
    collector = ReportCollector(stores.settlements, stores.settler, stores.region, queue_items=1_000, queue_bytes=2**26)
    async with running(collector.commits.run()):
        for n, execution_id in enumerate(held):
            await collector.report(session, report_of(execution_id, bad_ending if n == 200 else Succeeded(b"good")))
        acks: dict[str, Ack] = {}

        async def all_acked() -> bool:
            for message in await session.outbox.take():
                assert isinstance(message, Ack)
                acks[message.execution_text] = message
            return len(acks) == MANY

        await eventually(all_acked)
    bad = format_execution_id(held[200])
    assert {text for text, ack in acks.items() if ack.outcome is not Outcome.ACCEPTED} == {bad}
    assert acks[bad].outcome is Outcome.STALE
    async with sql(database_url) as look:
        states = await look.fetch("select state, count(*) from jobs group by state order by state")
        assert [tuple(row) for row in states] == [("active", 1), ("succeeded", MANY - 1)]
        # The attempt has failed, so that it is not delivered again for ever.
        attempt = await look.fetchrow("select state, error_type from executions where execution_id = $1", held[200])
        assert attempt is not None
        assert tuple(attempt) == ("failed", "ResultRefused")


async def test_a_result_that_cannot_be_replaced_either_is_answered_and_leaves_the_others_alone(
    stores: Stores, database_url: str
) -> None:
    await insert(stores, new_job(), new_job())
    hands = await register(stores)
    bad, good = [execution.execution_id for execution in await hands.claim(2)]
    await refuse_when(database_url, "update on executions", f"new.execution_id = '{bad}'")
    session = session_of(hands)
    collector = ReportCollector(stores.settlements, stores.settler, stores.region, queue_items=10, queue_bytes=2**20)
    async with running(collector.commits.run()):
        for execution_id in (bad, good):
            await collector.report(session, report_of(execution_id, Succeeded(b"1")))
        acks: list[Ack] = []

        async def both_acked() -> bool:
            acks.extend(message for message in await session.outbox.take() if isinstance(message, Ack))
            return len(acks) == 2

        await eventually(both_acked)
    assert {ack.execution_text: ack.outcome for ack in acks} == {
        format_execution_id(bad): Outcome.STALE,
        format_execution_id(good): Outcome.ACCEPTED,
    }
