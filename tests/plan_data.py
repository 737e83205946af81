"""A database that has been at work: many jobs in every state, with statistics from before all of them."""

from stores import sql

SESSIONS = 100
HELD_BY_EACH = 10
CAPABILITIES = 20

_TABLES = ("jobs", "job_inputs", "executions", "worker_sessions", "workers")

_PREPARE = "; ".join(f"alter table {table} set (autovacuum_enabled = off)" for table in _TABLES)

# Of ten jobs three are ready (two of them of one capability), one waits, two are dead letters, four are done.
_JOBS = """
insert into jobs (
    job_id, job_type, capability, priority, state, request_digest, max_attempts, initial_backoff_us, max_backoff_us,
    created_at, updated_at, finished_at
)
select
    job_id(n), capability(n) || '.send', capability(n), n % 3,
    case when n % 10 < 4 then 'active' when n % 10 < 6 then 'failed' else 'succeeded' end,
    decode(repeat('ab', 32), 'hex'), 3, 5000000, 60000000, now() - interval '2 days', now(),
    case when n % 10 >= 4 then now() - interval '1 day' + n * interval '1 ms' end
from generate_series(1, $1::integer) n
"""
_INPUTS = "insert into job_inputs (job_id, payload) select job_id(n), '{}' from generate_series(1, $1::integer) n"
_EXECUTIONS = """
insert into executions (
    execution_id, job_id, attempt, delivery, capability, priority, state, due_at, session_id, worker_id, claimed_at,
    started_at, finished_at, end_reason, error_message
)
select
    execution_id(n), job_id(n), 1, 1, capability(n), n % 3,
    case
        when n % 10 < 3 then 'queued' when n % 10 = 3 then 'waiting' when n % 10 < 6 then 'dead_lettered'
        else 'succeeded'
    end,
    now() + case when n % 10 = 3 and n > 2000 then interval '1 day' else interval '-1 day' end
        + (n / 50) * interval '1 ms',
    case when n % 10 > 3 then session_id(n % 100 + 1000) end, 'worker', now(), now(),
    case when n % 10 > 3 then now() end,
    case when n % 10 > 5 then 'succeeded' when n % 10 > 3 then 'failed' end,
    'no'
from generate_series(1, $1::integer) n
"""
_ENDED_SESSIONS = """
insert into worker_sessions (
    session_id, worker_id, process_id, principal, gateway, peer, status, lease_expires_at, last_seen_at, started_at,
    ended_at
)
select
    session_id(n + 1000), 'old ' || n, '', '', '', '', 'offline', now() - interval '1 day', now() - interval '1 day',
    now() - interval '2 days', now() - interval '1 day'
from generate_series(1, $1::integer / 10) n
"""
_LIVE_SESSIONS = """
insert into worker_sessions (
    session_id, worker_id, process_id, principal, gateway, peer, status, lease_expires_at, last_seen_at
)
select session_id(n), 'worker ' || n, '', '', '', '', 'ready', now() + interval '1 hour', now()
from generate_series(1, $1::integer) n
"""
_SILENT_SESSIONS = """
insert into worker_sessions (
    session_id, worker_id, process_id, principal, gateway, peer, status, lease_expires_at, last_seen_at
)
select session_id(n + 500), 'silent ' || n, '', '', '', '', 'ready', now() - interval '1 hour', now()
from generate_series(1, $1::integer) n
"""
_WORKERS = """
insert into workers (worker_id, capabilities, slots, session_id)
select 'worker ' || n, '{email}'::text[], 10, session_id(n) from generate_series(1, $1::integer) n
union all
select 'old ' || n, '{email}'::text[], 10, session_id(n + 1000) from generate_series(1, 1000) n
on conflict do nothing
"""
_HELD_JOBS = """
insert into jobs (
    job_id, job_type, capability, priority, state, request_digest, max_attempts, initial_backoff_us, max_backoff_us,
    created_at, updated_at
)
select
    held_job_id(n), 'email.send', 'email', 0, 'active', decode(repeat('ab', 32), 'hex'), 3, 5000000, 60000000, now(),
    now()
from generate_series(1, $1::integer) n
"""
_HELD_INPUTS = (
    "insert into job_inputs (job_id, payload) select held_job_id(n), '{}' from generate_series(1, $1::integer) n"
)
_HELD = """
insert into executions (
    execution_id, job_id, attempt, delivery, capability, priority, state, due_at, session_id, worker_id, claimed_at,
    started_at, deadline_at
)
select
    held_execution_id(n), held_job_id(n), 1, 1, 'email', 0, 'claimed', now(), session_id(n % $2::integer + 1),
    'worker ' || n % $2::integer + 1, now(), now(), now() + interval '1 day'
from generate_series(1, $1::integer) n
"""
_FUNCTIONS = """
create function capability(n integer) returns text immutable language sql as
    $$ select case when n % 10 = 2 then 'rare' || n % {capabilities} else 'email' end $$;
"""
_IDS = {
    "job_id": "8000",
    "execution_id": "9000",
    "session_id": "a000",
    "held_job_id": "b000",
    "held_execution_id": "8fff",
}
_ID = """
create function {name}(n integer) returns uuid immutable language sql as
    $$ select ('018f0000-0000-7000-{word}-' || lpad(to_hex(n), 12, '0'))::uuid $$;
"""


async def prepare(url: str) -> None:
    """Makes an empty database ready for `fill`, with the statistics of empty tables, which stay as they are."""
    async with sql(url) as session:
        await session.execute(_PREPARE)
        await session.execute("analyze")
        await session.execute(_FUNCTIONS.format(capabilities=CAPABILITIES))
        for name, word in _IDS.items():
            await session.execute(_ID.format(name=name, word=word))


async def fill(url: str, jobs: int) -> None:
    """Stores `jobs` jobs, and 1,000 executions held by 100 sessions."""
    async with sql(url) as session:
        for statement in (_JOBS, _INPUTS, _EXECUTIONS, _ENDED_SESSIONS):
            await session.execute(statement, jobs, timeout=240)
        for statement in (_LIVE_SESSIONS, _SILENT_SESSIONS):
            await session.execute(statement, SESSIONS)
        await session.execute(_WORKERS, SESSIONS)
        for statement in (_HELD_JOBS, _HELD_INPUTS):
            await session.execute(statement, SESSIONS * HELD_BY_EACH)
        await session.execute(_HELD, SESSIONS * HELD_BY_EACH, SESSIONS)
