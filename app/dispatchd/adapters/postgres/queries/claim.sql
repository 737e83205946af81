-- name: claim_executions
-- Assigns queued executions to sessions. Sessions first, in id order and shared, so that no session can end or be
-- taken over in between; then the executions in id order. What is locked by somebody else, no longer queued, or
-- offered to a session that has ended, is left out. Payloads above :inline_bytes are null and read when they are sent.
with permit as (
    select 1
    from region
    where primary_region = :region
      and mode = 'active'
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
takers as materialized (
    select s.session_id, s.ended_at, s.superseded_at
    from worker_sessions s
    where s.session_id = any(:sessions::uuid[])
      and exists (select 1 from permit)
    order by s.session_id
    for share
),
offered as (
    select o.execution_id, o.session_id, o.position
    from unnest(:execution_ids::uuid[], :session_ids::uuid[]) with ordinality as o (execution_id, session_id, position)
),
locked as materialized (
    select e.execution_id, e.state, o.session_id, o.position
    from offered o
    join executions e on e.execution_id = o.execution_id
    where (select count(*) from takers) > 0
    order by e.execution_id
    for update of e skip locked
),
claimed as (
    update executions e
    set state = 'claimed',
        session_id = l.session_id,
        worker_id = (select s.worker_id from worker_sessions s where s.session_id = l.session_id),
        claimed_at = now(),
        started_at = now(),
        deadline_at = now() + coalesce(e.timeout_us, :longest_us::bigint) * interval '1 microsecond'
    from locked l
    where e.execution_id = l.execution_id
      and l.state = 'queued'
      and (
          l.session_id in (select t.session_id from takers t where t.ended_at is null and t.superseded_at is null)
      ) is true
    returning e.execution_id, e.job_id, e.attempt, e.session_id, e.due_at, e.claimed_at, e.deadline_at, l.position
)
select
    c.execution_id,
    c.job_id,
    c.attempt,
    c.session_id,
    c.due_at,
    c.claimed_at,
    c.deadline_at,
    j.job_type,
    case when octet_length(i.payload) <= :inline_bytes::integer then i.payload end as payload,
    i.metadata::text as metadata,
    i.traceparent,
    i.tracestate
from claimed c
join jobs j on j.job_id = c.job_id
join job_inputs i on i.job_id = c.job_id
order by c.position;

-- name: lock_ready_executions
-- The best ready executions of each capability, locked, for a claim in the same transaction: the way without Redis.
select c.capability, r.execution_id, r.priority, r.due_at
from unnest(:capabilities::text[]) as c (capability)
cross join lateral (
    select e.execution_id, e.priority, e.due_at
    from executions e
    where e.capability = c.capability
      and e.state = 'queued'
    order by e.priority desc, e.due_at, e.execution_id
    limit :most::integer
    for update skip locked
) r;

-- name: sessions_over
-- Those of some sessions that take nothing any more.
select o.session_id
from unnest(:session_ids::uuid[]) as o (session_id)
left join worker_sessions s on s.session_id = o.session_id
where s.session_id is null
   or s.ended_at is not null
   or s.superseded_at is not null;

-- name: payload_of
-- The payload of one job.
select i.payload from job_inputs i where i.job_id = :job_id;
