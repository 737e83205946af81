"""What must be true of the database, whatever was sent: the states of jobs, executions and sessions fit together."""

from collections.abc import Sequence

import asyncpg

from fuzz.cases import FORBIDDEN

_MOST_ROWS = 5
_NEVER = {
    "a job without an execution": """
        select j.job_id from jobs j
        where not exists (select 1 from executions e where e.job_id = j.job_id)
    """,
    "a job without its input": """
        select j.job_id from jobs j
        where not exists (select 1 from job_inputs i where i.job_id = j.job_id)
    """,
    "an execution without a job": """
        select e.execution_id from executions e
        where not exists (select 1 from jobs j where j.job_id = e.job_id)
    """,
    "an active job that has not exactly one execution under way, the newest": """
        select j.job_id from jobs j
        join executions e on e.job_id = j.job_id
        where j.state = 'active'
        group by j.job_id
        having count(*) filter (where e.finished_at is null) <> 1
            or max(e.delivery) <> max(e.delivery) filter (where e.finished_at is null)
    """,
    "an ended job with an execution under way": """
        select j.job_id from jobs j
        join executions e on e.job_id = j.job_id
        where j.state <> 'active' and e.finished_at is null
    """,
    "a job that ended otherwise than its newest execution": """
        select j.job_id from jobs j
        cross join lateral (
            select e.state, e.end_reason from executions e where e.job_id = j.job_id order by e.delivery desc limit 1
        ) newest
        where (j.state = 'succeeded') <> (newest.state = 'succeeded')
            or (j.state = 'failed') <> (newest.state = 'dead_lettered')
            or (j.state = 'canceled') <> (newest.state = 'failed' and newest.end_reason = 'canceled')
    """,
    "a job that went on after it had succeeded or was canceled": """
        select e.job_id from executions e
        where (e.state = 'succeeded' or e.end_reason = 'canceled')
          and exists (select 1 from executions n where n.job_id = e.job_id and n.delivery > e.delivery)
    """,
    "deliveries that are not numbered 1, 2, 3": """
        select e.job_id from executions e
        group by e.job_id
        having min(e.delivery) <> 1 or max(e.delivery) <> count(*)
    """,
    "more attempts than the policy has": """
        select e.job_id from executions e
        join jobs j on j.job_id = e.job_id
        where e.attempt - e.attempts_before > j.max_attempts
    """,
    "a result of a job that has not succeeded": """
        select j.job_id from jobs j where j.state <> 'succeeded' and j.result is not null
    """,
    "an execution at a session that never was": """
        select e.execution_id from executions e
        where e.session_id is not null
          and not exists (select 1 from worker_sessions s where s.session_id = e.session_id)
    """,
    "a session of a worker that is not in the registry": """
        select s.session_id from worker_sessions s
        where not exists (select 1 from workers w where w.worker_id = s.worker_id)
    """,
    "a job of a caller who may not submit": f"""
        select j.job_id from jobs j
        where j.job_type like '{FORBIDDEN}%' or j.idempotency_key like '{FORBIDDEN}%'
    """,
    "a worker of a caller who may not connect": f"""
        select w.worker_id from workers w where w.worker_id like '{FORBIDDEN}%'
    """,
}
"""Queries that find nothing. Retention does not run within the time of a test."""

RULES = list(_NEVER)

_AT_REST = {
    "an execution at a worker": "select e.execution_id from executions e where e.state in ('claimed', 'running')",
    "an open session": """
        select s.session_id from worker_sessions s
        where s.closed_at is null and s.superseded_at is null and s.ended_at is null
    """,
}
"""Queries that find nothing when all workers have gone and their leases are over."""


async def contradictions(database_url: str) -> list[str]:
    """A sentence for each rule that is broken, with some of the rows."""
    return await _found(database_url, _NEVER)


async def unrest(database_url: str) -> list[str]:
    """A sentence for what is still under way."""
    return await _found(database_url, _AT_REST)


async def some_jobs(database_url: str, most: int) -> Sequence[str]:
    """Ids of jobs, of every state, spread over all there are."""
    connection = await asyncpg.connect(database_url, timeout=10.0)
    try:
        rows = await connection.fetch(
            "select 'job_' || replace(j.job_id::text, '-', '') as id from jobs j order by md5(j.job_id::text) limit $1",
            most,
        )
    finally:
        await connection.close()
    return [row["id"] for row in rows]


async def _found(database_url: str, queries: dict[str, str]) -> list[str]:
    connection = await asyncpg.connect(database_url, timeout=10.0)
    try:
        sentences = []
        for rule, query in queries.items():
            rows = await connection.fetch(f"{query} limit {_MOST_ROWS}")
            if rows:
                sentences.append(f"the database has {rule}: {', '.join(str(row[0]) for row in rows)}")
        return sentences
    finally:
        await connection.close()
