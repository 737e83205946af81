with ids as materialized (
    select uuidv7() as job_id, uuidv7() as execution_id
),
job as (
    insert into jobs (
        job_id, job_type, capability, priority, state, idempotency_key, key_digest, request_digest,
        max_attempts, initial_backoff_us, max_backoff_us, created_at, updated_at
    )
    select
        job_id, 'bench.noop', 'bench', 0, 'active', 'bench-' || job_id, sha256(uuid_send(job_id)),
        decode(repeat('ab', 32), 'hex'), 3, 5000000, 60000000, now(), now()
    from ids
),
input as (
    insert into job_inputs (job_id, payload)
    select job_id, decode(repeat('ab', 256), 'hex')
    from ids
)
insert into executions (execution_id, job_id, attempt, delivery, capability, priority, state, due_at, created_at)
select execution_id, job_id, 1, 1, 'bench', 0, 'queued', now(), now()
from ids;
