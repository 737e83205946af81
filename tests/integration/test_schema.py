"""The database's CHECKs say what the domain says: the same states, the same bounds, ended is ended."""

import re
from collections.abc import AsyncIterator
from enum import StrEnum

import asyncpg
import pytest

from dispatchd.domain import limits
from dispatchd.domain.execution import EXECUTION_TRANSITIONS, EndReason, ExecutionState
from dispatchd.domain.job import JOB_TRANSITIONS, JobState
from dispatchd.domain.region import RegionMode
from dispatchd.domain.worker import WorkerStatus
from stores import insert, new_job, open_stores, sql

Session = asyncpg.Connection

JOB = (
    "insert into jobs (job_id, job_type, capability, priority, state, request_digest, max_attempts, "
    "initial_backoff_us, max_backoff_us, timeout_us, created_at, updated_at, finished_at) values "
    "(gen_random_uuid(), {job_type}, 'email', {priority}, {state}, decode(repeat('ab', 32), 'hex'), {max_attempts}, "
    "{initial}, {longest}, {timeout}, now(), now(), {finished_at})"
)
GOOD_JOB = {
    "job_type": "'email.send'",
    "priority": "0",
    "state": "'active'",
    "max_attempts": "3",
    "initial": "0",
    "longest": "0",
    "timeout": "null",
    "finished_at": "null",
}


@pytest.fixture
async def session(database_url: str) -> "AsyncIterator[Session[asyncpg.Record]]":
    async with sql(database_url) as session:
        yield session


async def checks_of(session: "Session[asyncpg.Record]", table: str) -> list[str]:
    rows = await session.fetch(
        "select pg_get_constraintdef(oid) as text from pg_constraint where conrelid = $1::regclass and contype = 'c'",
        table,
    )
    return [row["text"] for row in rows]


async def values_of(session: "Session[asyncpg.Record]", table: str, column: str) -> set[str]:
    """The values that the CHECK of one column lists."""
    [check] = [
        check
        for check in await checks_of(session, table)
        if re.match(rf"CHECK \(\({column} = ANY \(ARRAY\[[^]]+\]\)\)\)", check)
    ]
    return set(re.findall(r"'(\w+)'::text", check))


async def test_a_column_takes_exactly_the_states_of_the_domain(session: "Session[asyncpg.Record]") -> None:
    columns: dict[tuple[str, str], type[StrEnum]] = {
        ("jobs", "state"): JobState,
        ("executions", "state"): ExecutionState,
        ("executions", "end_reason"): EndReason,
        ("worker_sessions", "status"): WorkerStatus,
        ("region", "mode"): RegionMode,
    }
    for (table, column), states in columns.items():
        assert await values_of(session, table, column) == set(states)


async def test_an_execution_has_an_end_exactly_in_the_states_without_a_way_out(
    session: "Session[asyncpg.Record]",
) -> None:
    [check] = [check for check in await checks_of(session, "executions") if "finished_at IS NOT NULL" in check]
    without_a_way_out = set(ExecutionState) - {source for source, _ in EXECUTION_TRANSITIONS}
    assert set(re.findall(r"'(\w+)'::text", check)) == without_a_way_out


async def test_a_job_has_an_end_exactly_when_it_is_not_active(session: "Session[asyncpg.Record]") -> None:
    [check] = [check for check in await checks_of(session, "jobs") if "finished_at" in check]
    assert set(re.findall(r"'(\w+)'::text", check)) == {JobState.ACTIVE}
    assert {target for source, target in JOB_TRANSITIONS if source is JobState.ACTIVE} == set(JobState) - {
        JobState.ACTIVE
    }


async def test_a_job_is_stored_within_the_bounds_of_the_domain_and_refused_past_them(
    session: "Session[asyncpg.Record]",
) -> None:
    within: list[dict[str, str]] = [
        {"job_type": f"repeat('a', {limits.JOB_TYPE_BYTES})"},
        {"priority": "2147483647"},
        {"max_attempts": "1"},
        {"max_attempts": str(limits.MOST_ATTEMPTS)},
        {"initial": "5", "longest": "5"},
        {"timeout": "1"},
        *({"state": f"'{state}'", "finished_at": "now()"} for state in JobState if state is not JobState.ACTIVE),
    ]
    past: list[dict[str, str]] = [
        {"job_type": "''"},
        {"job_type": f"repeat('a', {limits.JOB_TYPE_BYTES + 1})"},
        {"priority": "-1"},
        {"max_attempts": "0"},
        {"max_attempts": str(limits.MOST_ATTEMPTS + 1)},
        {"initial": "-1"},
        {"initial": "6", "longest": "5"},
        {"timeout": "0"},
        {"state": "'waiting'"},
        {"finished_at": "now()"},
        {"state": "'failed'"},
    ]
    for change in within:
        assert await session.execute(JOB.format(**GOOD_JOB | change)) == "INSERT 0 1"
    for change in past:
        await refused(session, JOB.format(**GOOD_JOB | change))


async def test_a_payload_is_stored_within_the_bounds_of_the_domain_and_refused_past_them(
    session: "Session[asyncpg.Record]",
) -> None:
    statement = "insert into job_inputs (job_id, payload) values (gen_random_uuid(), $1)"
    for size in (1, limits.PAYLOAD_BYTES):
        await session.execute(statement, bytes(size))
    for size in (0, limits.PAYLOAD_BYTES + 1):
        await refused(session, statement, bytes(size))


async def test_a_worker_has_as_many_slots_as_the_domain_allows(session: "Session[asyncpg.Record]") -> None:
    statement = (
        "insert into workers (worker_id, capabilities, slots, session_id) "
        "values (gen_random_uuid()::text, '{a}', $1, gen_random_uuid())"
    )
    for slots in (1, limits.SLOTS):
        await session.execute(statement, slots)
    for slots in (0, limits.SLOTS + 1):
        await refused(session, statement, slots)


async def test_an_execution_that_contradicts_itself_is_refused(
    session: "Session[asyncpg.Record]", database_url: str
) -> None:
    async with open_stores(database_url) as stores:
        await insert(stores, new_job())
    for change in (
        "state = 'claimed'",
        "state = 'failed'",
        "finished_at = now()",
        "end_reason = 'failed'",
        "state = 'failed', finished_at = now()",
        "attempt = 2",
        "attempts_before = 1",
        "counted_before = -1",
    ):
        await refused(session, f"update executions set {change}")


async def refused(session: "Session[asyncpg.Record]", statement: str, *values: object) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await session.execute(statement, *values)


async def test_no_index_mentions_a_column_that_heartbeats_write(session: "Session[asyncpg.Record]") -> None:
    definitions = [
        row["indexdef"]
        for row in await session.fetch("select indexdef from pg_indexes where tablename = 'worker_sessions'")
    ]
    assert definitions
    for column in ("lease_expires_at", "last_seen_at", "status"):
        assert not [text for text in definitions if re.search(rf"\b{column}\b", text)]
