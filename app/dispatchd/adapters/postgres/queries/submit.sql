-- name: insert_jobs
-- Inserts jobs with their inputs and first executions, in the order of the key digests, so that two processes
-- with the same keys can't dead-lock. A job whose key or id exists already inserts nothing. Always at least one row.
-- "(in …) is true" keeps the look-up a hashed one: as a join it would compare each row with each, since these
-- connections have hash joins switched off.
with permit as (
    select 1
    from region
    where primary_region = :region
      and mode = 'active'
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
submitted as (
    select *
    from unnest(
        :job_ids::uuid[],
        :execution_ids::uuid[],
        :job_types::text[],
        :capabilities::text[],
        :priorities::integer[],
        :idempotency_keys::text[],
        :key_digests::bytea[],
        :request_digests::bytea[],
        :max_attempts::integer[],
        :initial_backoffs_us::bigint[],
        :max_backoffs_us::bigint[],
        :run_ats::timestamptz[],
        :timeouts_us::bigint[],
        :payloads::bytea[],
        :metadata::text[],
        :traceparents::text[],
        :tracestates::text[]
    ) as s (
        job_id, execution_id, job_type, capability, priority, idempotency_key, key_digest, request_digest,
        max_attempts, initial_backoff_us, max_backoff_us, run_at, timeout_us, payload, metadata,
        traceparent, tracestate
    )
),
inserted as (
    insert into jobs (
        job_id, job_type, capability, priority, state, idempotency_key, key_digest, request_digest,
        max_attempts, initial_backoff_us, max_backoff_us, run_at, timeout_us, created_at, updated_at
    )
    select
        s.job_id, s.job_type, s.capability, s.priority, 'active', s.idempotency_key, s.key_digest, s.request_digest,
        s.max_attempts, s.initial_backoff_us, s.max_backoff_us, s.run_at, s.timeout_us, now(), now()
    from submitted s
    cross join permit
    order by s.key_digest, s.job_id
    on conflict do nothing
    returning job_id
),
inputs as (
    insert into job_inputs (job_id, payload, metadata, traceparent, tracestate)
    select s.job_id, s.payload, s.metadata::jsonb, s.traceparent, s.tracestate
    from submitted s
    where (s.job_id in (select i.job_id from inserted i)) is true
),
first_executions as (
    insert into executions (
        execution_id, job_id, attempt, delivery, capability, priority, timeout_us, state, due_at, created_at
    )
    select
        s.execution_id, s.job_id, 1, 1, s.capability, s.priority, s.timeout_us,
        case when s.run_at > now() then 'waiting' else 'queued' end,
        greatest(s.run_at, now()),
        now()
    from submitted s
    where (s.job_id in (select i.job_id from inserted i)) is true
)
select
    permitted.yes as permitted,
    now() as created_at,
    inserted.job_id
from (select exists (select 1 from permit) as yes) permitted
left join inserted on true;

-- name: jobs_by_key_or_id
-- The jobs that stood in the way of an insert: by idempotency key, or our own from a try whose commit was unclear; with
-- their executions that are ready.
with standing as (
    select s.*
    from job_summaries s
    where s.key_digest = any(:key_digests::bytea[])
    union
    select s.*
    from job_summaries s
    where s.job_id = any(:job_ids::uuid[])
)
select s.*, newest.execution_id as ready_execution_id, newest.capability, newest.due_at
from standing s
left join lateral (
    select e.execution_id, e.capability, e.due_at
    from executions e
    where e.job_id = s.job_id
    order by e.delivery desc
    limit 1
) newest on s.newest_state = 'queued';
