-- oldest code: 1
-- The truth: jobs, their executions, the worker sessions that hold them, the worker registry and the region row.
-- The values in the CHECKs are those of dispatchd.domain; a test compares them.

create table region (
    only_row boolean primary key default true check (only_row),
    primary_region text not null,
    epoch bigint not null check (epoch >= 1),
    mode text not null check (mode in ('active', 'draining')),
    changed_at timestamptz not null default now()
);

-- What changes of a job is small and stands here; what never changes stands in job_inputs,
-- so that no state change rewrites a payload.
create table jobs (
    job_id uuid primary key,
    job_type text not null check (octet_length(job_type) between 1 and 200),
    capability text not null,
    priority integer not null check (priority >= 0),
    state text not null check (state in ('active', 'succeeded', 'failed', 'canceled')),
    idempotency_key text,
    key_digest bytea unique check (octet_length(key_digest) = 32),
    request_digest bytea not null check (octet_length(request_digest) = 32),
    max_attempts integer not null check (max_attempts between 1 and 100),
    initial_backoff_us bigint not null check (initial_backoff_us >= 0),
    max_backoff_us bigint not null check (max_backoff_us >= initial_backoff_us),
    run_at timestamptz,
    timeout_us bigint check (timeout_us > 0),
    result bytea,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz,
    check ((key_digest is null) = (idempotency_key is null)),
    check ((state = 'active') = (finished_at is null))
);

-- Retention walks it by time, the list of dead letters by time within 'failed'.
create index jobs_finished on jobs (state, finished_at, job_id) where finished_at is not null;

create table job_inputs (
    job_id uuid primary key,
    payload bytea not null check (octet_length(payload) between 1 and 2097152),
    metadata jsonb,
    traceparent text,
    tracestate text
);

create table executions (
    execution_id uuid primary key,
    job_id uuid not null,
    attempt integer not null check (attempt >= 1),
    delivery integer not null check (delivery >= attempt),
    attempts_before integer not null default 0 check (attempts_before < attempt),
    counted_before integer not null default 0 check (counted_before >= 0),
    capability text not null,
    priority integer not null,
    timeout_us bigint,
    state text not null check (
        state in ('waiting', 'queued', 'claimed', 'running', 'succeeded', 'failed', 'dead_lettered')
    ),
    due_at timestamptz not null,
    session_id uuid,
    worker_id text,
    claimed_at timestamptz,
    started_at timestamptz,
    deadline_at timestamptz,
    finished_at timestamptz,
    end_reason text check (
        end_reason in ('succeeded', 'failed', 'lease_lost', 'returned', 'canceled', 'timed_out')
    ),
    error_type text,
    error_message text,
    result_metadata jsonb,
    created_at timestamptz not null default now(),
    unique (job_id, delivery),
    check ((state in ('succeeded', 'failed', 'dead_lettered')) = (finished_at is not null)),
    check ((finished_at is null) = (end_reason is null)),
    check (state not in ('claimed', 'running') or (session_id is not null and claimed_at is not null))
);

-- The ready queue's order, for claims without Redis and for the repair of the hints in Redis.
create index executions_ready on executions (capability, priority desc, due_at, execution_id) where state = 'queued';
-- What becomes ready by time alone.
create index executions_waiting on executions (due_at, execution_id) where state = 'waiting';
-- What a session holds; as long as all workers have slots together.
create index executions_held on executions (session_id) where state in ('claimed', 'running');

-- One connection of one worker. Heartbeats write lease_expires_at, last_seen_at and status: no index mentions them.
create table worker_sessions (
    session_id uuid primary key,
    worker_id text not null,
    process_id text not null,
    principal text not null,
    gateway text not null,
    peer text not null,
    status text not null check (status in ('ready', 'busy', 'draining', 'offline')),
    lease_expires_at timestamptz not null,
    last_seen_at timestamptz not null,
    started_at timestamptz not null default now(),
    closed_at timestamptz,
    superseded_at timestamptz,
    was_takeover boolean not null default false,
    ended_at timestamptz
) with (fillfactor = 70);

create index worker_sessions_open on worker_sessions (worker_id, session_id) where ended_at is null;
create index worker_sessions_takeovers on worker_sessions (worker_id, started_at) where was_takeover;
create index worker_sessions_ended on worker_sessions (ended_at) where ended_at is not null;

-- The registry: the newest words of each worker about itself.
create table workers (
    worker_id text primary key,
    capabilities text[] not null,
    slots integer not null check (slots between 1 and 1000),
    labels jsonb,
    session_id uuid not null,
    registered_at timestamptz not null default now()
);

-- A job together with what its executions say about it.
create view job_summaries as
select
    j.job_id,
    j.job_type,
    j.state,
    j.priority,
    j.idempotency_key,
    j.key_digest,
    j.request_digest,
    j.max_attempts,
    j.initial_backoff_us,
    j.max_backoff_us,
    j.run_at,
    j.timeout_us,
    j.created_at,
    j.finished_at,
    greatest(j.updated_at, newest.changed_at) as updated_at,
    newest.state as newest_state,
    case when newest.claimed_at is null then newest.attempt - 1 else newest.attempt end as attempts,
    coalesce(failure.error_message, '') as last_error
from jobs j
cross join lateral (
    select
        e.state,
        e.attempt,
        e.claimed_at,
        greatest(e.created_at, e.claimed_at, e.started_at, e.finished_at) as changed_at
    from executions e
    where e.job_id = j.job_id
    order by e.delivery desc
    limit 1
) newest
left join lateral (
    select e.error_message
    from executions e
    where e.job_id = j.job_id
      and (e.end_reason in ('failed', 'lease_lost', 'timed_out') or e.state = 'dead_lettered')
    order by e.delivery desc
    limit 1
) failure on true;
