"""Dead letters: who becomes one, how they are listed, and how a redrive gives them a new budget."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import grpc.aio
import pytest

from control_planes import ControlPlane, control_plane_on, field_at_fault
from dispatchd.adapters.grpc.job_codec import submission_of
from dispatchd.domain import limits
from dispatchd.domain.ids import JobId, format_job_id, parse_job_id
from dispatchd.domain.job import JobState, JobStatus
from dispatchd.domain.retry import EXTRA_DELIVERIES, RetryPolicy
from dispatchd.domain.settlement import Failed, LeaseLost, Returned, Succeeded, TimedOut
from dispatchd.domain.submission import request_digest
from dispatchd.v1 import dispatchd_pb2 as pb
from stores import FENCE, Hands, Stores, ids, insert, make_due, new_job, open_stores, register, sql, wait_long_for_locks
from waiting import until_done, until_waiting

Session = asyncpg.Connection
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(autouse=True)
def _locks_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_long_for_locks(monkeypatch)


@pytest.fixture
async def plane(database_url: str, redis_address: str) -> AsyncIterator[ControlPlane]:
    async with control_plane_on(database_url, redis_address) as plane:
        yield plane


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with open_stores(database_url) as stores:
        yield stores


@pytest.fixture
async def hands(stores: Stores) -> Hands:
    return await register(stores, capabilities=["email", "report"])


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


async def dead(stores: Stores, hands: Hands, count: int = 1, job_type: str = "email.send") -> list[str]:
    """Dead letters, the first to fail first."""
    jobs = await insert(stores, *(new_job(job_type, policy=ONCE) for _ in range(count)))
    for _ in jobs:
        await hands.end(Failed("no"), (await hands.claim_one()).execution_id)
    return [format_job_id(job.view.job_id) for job in jobs]


async def redrive(plane: ControlPlane, job_ids: Iterable[str]) -> list[pb.RedriveResult]:
    request = pb.RedriveDeadLettersRequest(job_ids=job_ids)
    return list((await plane.operators.RedriveDeadLetters(request, timeout=15.0)).results)


async def listed(plane: ControlPlane, size: int = 0, job_type: str = "") -> list[list[str]]:
    """The ids on each page."""
    pages, token = [], ""
    while True:
        request = pb.ListDeadLettersRequest(page_size=size, page_token=token, job_type=job_type)
        answer = await plane.operators.ListDeadLetters(request, timeout=15.0)
        assert answer.ByteSize() <= limits.ANSWER_BYTES
        pages.append([job.job_id for job in answer.jobs])
        token = answer.next_page_token
        if not token:
            return pages


# --- who becomes one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Failed("no"), LeaseLost("gone"), TimedOut("late")])
async def test_a_job_whose_attempts_are_used_up_is_a_dead_letter(
    stores: Stores, hands: Hands, ending: Failed | LeaseLost | TimedOut
) -> None:
    [job] = await insert(stores, new_job(policy=RetryPolicy(3, timedelta(0), timedelta(0))))
    view = await hands.fail_until_dead(ending, job.view.job_id)
    assert (view.status, view.attempts, view.last_error) == (JobStatus.FAILED, 3, ending.error_message)


async def test_a_job_that_was_delivered_too_often_is_a_dead_letter(
    stores: Stores, hands: Hands, session: "Session[asyncpg.Record]"
) -> None:
    policy = RetryPolicy(2, timedelta(0), timedelta(0))
    [job] = await insert(stores, new_job(policy=policy))
    # What was never sent counts for nothing.
    for _ in range(30):
        await hands.end(Returned(was_sent=False), (await hands.claim_one()).execution_id)
    await hands.end(Failed("once"), (await hands.claim_one()).execution_id)
    deliveries = 1
    while (await stores.jobs.get(job.view.job_id)).status is JobStatus.PENDING:
        await hands.end(Returned(was_sent=True), (await hands.claim_one()).execution_id)
        deliveries += 1
    assert deliveries == policy.max_attempts + EXTRA_DELIVERIES
    view = await stores.jobs.get(job.view.job_id)
    assert (view.status, view.attempts) == (JobStatus.FAILED, 2)
    assert "22 deliveries" in view.last_error
    numbers = await session.fetch("select delivery from executions order by delivery")
    assert [row["delivery"] for row in numbers] == list(range(1, 30 + deliveries + 1))


# --- the list -------------------------------------------------------------------------------------------------------


async def test_the_last_to_fail_is_listed_first_without_what_is_large(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    assert await listed(plane) == [[]]
    job_ids = await dead(stores, hands, 5)
    await plane.submit()
    last_first = job_ids[::-1]
    assert await listed(plane) == [last_first]
    assert await listed(plane, 2) == [last_first[:2], last_first[2:4], last_first[4:]]
    [first, *_] = (await plane.operators.ListDeadLetters(pb.ListDeadLettersRequest())).jobs
    assert (first.status, first.last_error, first.attempts, first.payload) == (pb.JOB_STATUS_FAILED, "no", 1, b"")


async def test_dead_letters_of_one_job_type_are_listed_alone(plane: ControlPlane, stores: Stores, hands: Hands) -> None:
    emails = await dead(stores, hands, 2)
    reports = await dead(stores, hands, 3, "report.render")
    assert await listed(plane, 2, "report.render") == [reports[:0:-1], reports[:1]]
    assert await listed(plane, 0, "email.send") == [emails[::-1]]
    assert await listed(plane, 0, "email") == [[]]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await listed(plane, 0, "no type")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_at_fault(refused.value) == "job_type"


async def test_dead_letters_that_failed_at_the_same_moment_are_all_listed(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    jobs = await insert(stores, *(new_job(policy=ONCE) for _ in range(7)))
    await hands.end(Failed("no"), *(each.execution_id for each in await hands.claim(7)))
    pages = await listed(plane, 3)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {job_id for page in pages for job_id in page} == {format_job_id(job.view.job_id) for job in jobs}


async def large_dead_letters(session: "Session[asyncpg.Record]", count: int) -> list[str]:
    """Dead letters whose key and error are as large as they can be."""
    rows = await session.fetch(
        "with made as ("
        "  insert into jobs (job_id, job_type, capability, priority, state, idempotency_key, key_digest, "
        "    request_digest, max_attempts, initial_backoff_us, max_backoff_us, created_at, updated_at, finished_at) "
        "  select gen_random_uuid(), repeat('t', 200), 't', 0, 'failed', lpad(n::text, 512, 'k'), "
        "    sha256(lpad(n::text, 512, 'k')::bytea), $2, 3, 5000000, 60000000, now(), now(), now() "
        "  from generate_series(1, $1) n returning job_id, idempotency_key), "
        "tried as (insert into executions (execution_id, job_id, attempt, delivery, capability, priority, state, "
        "    due_at, claimed_at, finished_at, end_reason, error_message) "
        "  select gen_random_uuid(), job_id, 3, 3, 't', 0, 'dead_lettered', now(), now(), now(), 'failed', "
        "    repeat('é', 8192) from made), "
        "inputs as (insert into job_inputs (job_id, payload) select job_id, 'x' from made) "
        "select job_id from made order by idempotency_key",
        count,
        bytes(32),
    )
    return [format_job_id(JobId(row["job_id"])) for row in rows]


async def test_lists_of_large_dead_letters_are_cut_to_what_an_answer_may_be(
    plane: ControlPlane, session: "Session[asyncpg.Record]"
) -> None:
    job_ids = await large_dead_letters(session, 400)
    pages = await listed(plane, 1_000)
    assert {job_id for page in pages for job_id in page} == set(job_ids)
    assert len(pages) == 2
    # A redrive answers each of its ids, so it cuts the errors.
    request = pb.RedriveDeadLettersRequest(job_ids=job_ids)
    answer = await plane.operators.RedriveDeadLetters(request, timeout=15.0)
    assert answer.ByteSize() <= limits.ANSWER_BYTES
    assert [result.job_id for result in answer.results] == job_ids
    assert all(result.job.last_error.startswith("éé") for result in answer.results)


async def test_a_list_of_repeated_submits_is_cut_to_what_an_answer_may_be(
    plane: ControlPlane, session: "Session[asyncpg.Record]"
) -> None:
    await large_dead_letters(session, 400)
    sent = [pb.SubmitJobRequest(job_type="t" * 200, payload=b"x", idempotency_key=f"{n:k>512}") for n in range(1, 401)]
    await session.execute("update jobs set request_digest = $1", request_digest(submission_of(sent[0])))
    request = pb.SubmitJobsRequest(items=[pb.SubmitJobsItem(request=each) for each in sent])
    answer = await plane.jobs.SubmitJobs(request, timeout=15.0)
    assert answer.ByteSize() <= limits.ANSWER_BYTES
    assert {result.job.status for result in answer.results} == {pb.JOB_STATUS_FAILED}
    assert all(result.job.last_error.startswith("éé") for result in answer.results)


# --- redrive --------------------------------------------------------------------------------------------------------


async def test_a_redriven_job_has_new_budgets_and_its_numbers_go_on(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    job_id = (await plane.submit(retry_policy=pb.RetryPolicy(max_attempts=2))).job_id
    await hands.fail_until_dead(Failed("first round"), parse_job_id(job_id))
    [result] = await redrive(plane, [job_id])
    assert (result.job_id, result.job.status, result.job.attempts) == (job_id, pb.JOB_STATUS_PENDING, 2)
    assert (result.job.last_error, result.job.payload) == ("first round", b"")
    assert await listed(plane) == [[]]
    # The backoff starts anew too, and so do the deliveries.
    held = await hands.claim_one()
    assert held.attempt == 3
    await hands.end(Failed("second round"), held.execution_id)
    await make_due(stores)
    for _ in range(EXTRA_DELIVERIES):
        await hands.end(Returned(was_sent=True), (await hands.claim_one()).execution_id)
    held = await hands.claim_one()
    assert held.attempt == 4
    await hands.end(Failed("the end"), held.execution_id)
    job = await plane.get(job_id)
    assert (job.status, job.attempts, job.last_error) == (pb.JOB_STATUS_FAILED, 4, "the end")
    # And once more, to the other end.
    await redrive(plane, [job_id])
    await hands.end(Succeeded(b"42"), (await hands.claim_one()).execution_id)
    job = await plane.get(job_id)
    assert (job.status, job.attempts, job.result) == (pb.JOB_STATUS_SUCCEEDED, 5, b"42")
    executions = (await plane.jobs.ListExecutions(pb.ListExecutionsRequest(job_id=job_id))).executions
    assert [each.attempt for each in executions] == [1, 2, 3, *[4] * 21, 5]


async def test_only_dead_letters_are_redriven_and_every_id_has_its_answer(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    [dead_one] = await dead(stores, hands)
    done = (await plane.submit()).job_id
    await hands.end(Succeeded(), (await hands.claim_one()).execution_id)
    waiting = (await plane.submit()).job_id
    canceled = (await plane.submit()).job_id
    await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=canceled))
    unknown = format_job_id(ids.job_id())
    asked = [waiting, dead_one, unknown, "no id", done, canceled, dead_one, "", "x" * 4_000]
    results = await redrive(plane, asked)
    not_now, not_there = grpc.StatusCode.FAILED_PRECONDITION.value[0], grpc.StatusCode.NOT_FOUND.value[0]
    bad = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert [result.error.code for result in results] == [not_now, 0, not_there, bad, not_now, not_now, 0, bad, bad]
    assert [result.job_id for result in results[:-1]] == asked[:-1]
    assert results[1] == results[6]
    assert "active" in results[0].error.message
    assert results[3].error.field == "job_ids"
    assert (await plane.get(waiting)).attempts == 0


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_redrive_takes_one_to_a_thousand_ids(plane: ControlPlane, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await redrive(plane, [format_job_id(ids.job_id())] * count)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_at_fault(refused.value) == "job_ids"


async def test_ids_of_any_length_are_answered_within_the_size_of_an_answer(plane: ControlPlane) -> None:
    [result] = await redrive(plane, ["x" * (4 * 1024 * 1024 - 100)])
    assert result.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert result.ByteSize() < 1_000


async def test_a_late_result_of_the_attempt_before_a_redrive_changes_nothing(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    [job] = await insert(stores, new_job(policy=ONCE))
    lost = await hands.claim_one()
    await hands.end(LeaseLost("gone"), lost.execution_id)
    [result] = await redrive(plane, [format_job_id(job.view.job_id)])
    assert result.HasField("job")
    assert await hands.end(Succeeded(b"late"), lost.execution_id) == 0
    assert (await stores.jobs.get(job.view.job_id)).status is JobStatus.PENDING


# --- races ----------------------------------------------------------------------------------------------------------


async def test_two_redrives_at_the_same_moment_make_one_execution(
    stores: Stores, hands: Hands, session: "Session[asyncpg.Record]"
) -> None:
    [text] = await dead(stores, hands)
    job_id = parse_job_id(text)
    async with session.transaction():
        await session.execute("select 1 from jobs for update")
        both = [asyncio.ensure_future(stores.jobs.redrive([(job_id, ids.execution_id())], FENCE)) for _ in range(2)]
        await until_waiting(session, 2)
    outcomes = [outcome[job_id] for outcome in await until_done(asyncio.gather(*both))]
    assert sorted(outcome.entry is not None for outcome in outcomes) == [False, True]
    assert {outcome.state for outcome in outcomes} == {JobState.FAILED, JobState.ACTIVE}
    assert await session.fetchval("select count(*) from executions") == 2


async def test_redrives_of_the_same_jobs_in_opposite_order_do_not_dead_lock(
    stores: Stores, hands: Hands, session: "Session[asyncpg.Record]"
) -> None:
    job_ids = [parse_job_id(text) for text in await dead(stores, hands, 2)]
    for held in job_ids:
        async with session.transaction():
            await session.execute("select 1 from jobs where job_id = $1 for update", held)
            both = [
                asyncio.ensure_future(stores.jobs.redrive([(each, ids.execution_id()) for each in order], FENCE))
                for order in (job_ids, job_ids[::-1])
            ]
            await until_waiting(session, 2)
        await until_done(asyncio.gather(*both))
        await hands.end(Failed("no"), *(each.execution_id for each in await hands.claim(2)))


async def test_a_job_that_somebody_holds_keeps_no_other_from_being_redriven(
    database_url: str,
    redis_address: str,
    stores: Stores,
    hands: Hands,
    session: "Session[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dispatchd.adapters.postgres.database.LOCK_TIMEOUT", timedelta(milliseconds=50))
    job_ids = await dead(stores, hands, 20)
    async with control_plane_on(database_url, redis_address) as plane, session.transaction():
        await session.execute("select 1 from jobs where job_id = $1 for update", parse_job_id(job_ids[13]))
        results = await redrive(plane, job_ids)
    refused = {n: result.error.code for n, result in enumerate(results) if result.HasField("error")}
    assert refused == {13: grpc.StatusCode.UNAVAILABLE.value[0]}
    assert await session.fetchval("select count(*) from executions where state = 'queued'") == 19


async def test_a_redrive_that_meets_retention_finds_the_job_whole_or_not_at_all(
    stores: Stores, hands: Hands, session: "Session[asyncpg.Record]"
) -> None:
    [text] = await dead(stores, hands)
    job_id = parse_job_id(text)
    async with session.transaction():
        # Retention has locked the job and not yet deleted what belongs to it.
        await session.execute("select 1 from jobs for update")
        redriving = asyncio.ensure_future(stores.jobs.redrive([(job_id, ids.execution_id())], FENCE))
        await until_waiting(session)
        await session.execute("delete from executions")
        await session.execute("delete from job_inputs")
        await session.execute("delete from jobs")
    outcome = (await until_done(redriving))[job_id]
    assert (outcome.entry, outcome.state) == (None, None)
    assert await session.fetchval("select count(*) from executions") == 0

    # The other way round: a job that is being redriven is passed by.
    [text] = await dead(stores, hands)
    async with session.transaction():
        await session.execute("select 1 from jobs for update")
        assert await stores.recovery.delete_finished([JobState.FAILED], timedelta(0), 100, FENCE) == 0
    assert await stores.recovery.delete_finished([JobState.FAILED], timedelta(0), 100, FENCE) == 1


async def test_times_of_failure_are_those_of_the_newest_round(
    plane: ControlPlane, stores: Stores, hands: Hands
) -> None:
    early, late = [*await dead(stores, hands), *await dead(stores, hands)]
    await redrive(plane, [early])
    before = datetime.now(UTC)
    await hands.end(Failed("again"), (await hands.claim_one()).execution_id)
    assert await listed(plane) == [[early, late]]
    assert (await plane.get(early)).updated_at.ToDatetime(UTC) >= before
