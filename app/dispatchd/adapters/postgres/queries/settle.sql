-- name: lock_executions
-- Locks executions for their end: their jobs first, then they themselves, each in id order. Who reports is compared
-- with the session of the locked row. The policy never changes, so it is read from the table, by key.
with their_jobs as materialized (
    select distinct e.job_id
    from executions e
    where e.execution_id = any(:execution_ids::uuid[])
),
locked_jobs as materialized (
    select j.job_id
    from jobs j
    where j.job_id in (select t.job_id from their_jobs t)
    order by j.job_id
    for update
),
locked as materialized (
    select
        e.execution_id, e.job_id, e.attempt, e.delivery, e.attempts_before, e.counted_before, e.capability,
        e.priority, e.due_at, e.state, e.end_reason, e.session_id, e.worker_id, e.deadline_at
    from executions e
    where e.execution_id = any(:execution_ids::uuid[])
      and (select count(*) from locked_jobs) > 0
    order by e.execution_id
    for update
)
select
    l.execution_id, l.job_id, l.attempt, l.delivery, l.attempts_before, l.counted_before, l.capability,
    l.priority, l.due_at, l.state, l.end_reason, l.session_id, l.worker_id,
    coalesce(l.deadline_at <= now(), false) as is_overdue,
    j.max_attempts, j.initial_backoff_us, j.max_backoff_us,
    s.worker_id as session_worker, s.principal, s.ended_at is not null as session_ended,
    s.session_id is null as session_missing
from locked l
join jobs j on j.job_id = l.job_id
left join lateral (
    -- "offset 0" keeps it a look-up by key: joined, a planner who has seen few sessions would read all of them.
    select w.session_id, w.worker_id, w.principal, w.ended_at
    from worker_sessions w
    where w.session_id = l.session_id
    offset 0
) s on true;

-- name: lock_job
-- Locks one job; what its executions are is read by the next statement, whose snapshot is younger than the lock.
select j.job_id, j.state from jobs j where j.job_id = :job_id for update;

-- name: lock_jobs
-- The same for several, in id order.
select j.job_id, j.state from jobs j where j.job_id = any(:job_ids::uuid[]) order by j.job_id for update;

-- name: open_executions_of_job
-- The execution of a locked job that has not ended: at most one.
select e.execution_id
from executions e
where e.job_id = :job_id
  and e.finished_at is null;

-- name: newest_executions_of_jobs
-- The newest execution of each of some locked jobs, for a redrive.
select distinct on (e.job_id) e.job_id, e.execution_id, e.attempt, e.delivery, e.capability, e.priority
from executions e
where e.job_id = any(:job_ids::uuid[])
order by e.job_id, e.delivery desc;

-- name: apply_settlements
-- Ends executions that are locked and have not ended, inserts what follows them, and ends their jobs where nothing does.
with permit as (
    select 1
    from region
    where primary_region = :region
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
settled as (
    select *
    from unnest(
        :execution_ids::uuid[],
        :states::text[],
        :end_reasons::text[],
        :error_messages::text[],
        :error_types::text[],
        :result_metadata::text[],
        :job_states::text[],
        :results::bytea[],
        :next_ids::uuid[],
        :next_attempts::integer[],
        :next_deliveries::integer[],
        :next_attempts_before::integer[],
        :next_counted::integer[],
        :next_delays_us::bigint[]
    ) as s (
        execution_id, state, end_reason, error_message, error_type, result_metadata, job_state, result,
        next_id, next_attempt, next_delivery, next_attempts_before, next_counted, next_delay_us
    )
),
ended as (
    update executions e
    set state = s.state,
        end_reason = s.end_reason,
        error_message = s.error_message,
        error_type = s.error_type,
        result_metadata = s.result_metadata::jsonb,
        finished_at = now()
    from settled s
    where e.execution_id = s.execution_id
      and e.finished_at is null
      and exists (select 1 from permit)
    returning
        e.execution_id, e.job_id, e.capability, e.priority, e.timeout_us,
        s.job_state, s.result, s.next_id, s.next_attempt, s.next_delivery, s.next_attempts_before, s.next_counted,
        case when s.next_delay_us > 0 then 'waiting' else 'queued' end as next_state,
        coalesce(now() + s.next_delay_us * interval '1 microsecond', e.due_at) as next_due_at
),
following as (
    insert into executions (
        execution_id, job_id, attempt, delivery, attempts_before, counted_before, capability, priority, timeout_us,
        state, due_at, created_at
    )
    select
        e.next_id, e.job_id, e.next_attempt, e.next_delivery, e.next_attempts_before, e.next_counted,
        e.capability, e.priority, e.timeout_us, e.next_state, e.next_due_at, now()
    from ended e
    where e.next_id is not null
),
finished as (
    update jobs j
    set state = e.job_state,
        result = e.result,
        finished_at = now(),
        updated_at = now()
    from ended e
    where j.job_id = e.job_id
      and e.job_state is not null
      and j.state = 'active'
)
select
    (select count(*) from permit) > 0 as permitted,
    e.next_id,
    e.capability as next_capability,
    e.priority as next_priority,
    e.next_state,
    e.next_due_at
from (select 1) one
left join ended e on e.next_id is not null;

-- name: complete_executions
-- Ends executions that succeeded, and their jobs: locks as lock_executions does and writes in the same statement. What
-- has ended, or is not the named session's, is left out, and so is everything where the region row does not permit it.
-- (What a session holds and has not ended is live.)
with permit as (
    select 1
    from region
    where primary_region = :region
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
their_jobs as materialized (
    select distinct e.job_id
    from executions e
    where e.execution_id = any(:execution_ids::uuid[])
      and exists (select 1 from permit)
),
locked_jobs as materialized (
    select j.job_id
    from jobs j
    where j.job_id in (select t.job_id from their_jobs t)
    order by j.job_id
    for update
),
reported as (
    select *
    from unnest(:execution_ids::uuid[], :session_ids::uuid[], :results::bytea[], :result_metadata::text[])
        as r (execution_id, session_id, result, result_metadata)
),
locked as materialized (
    select e.execution_id, e.finished_at, e.session_id as holder, r.session_id, r.result, r.result_metadata
    from reported r
    join executions e on e.execution_id = r.execution_id
    where (select count(*) from locked_jobs) > 0
    order by e.execution_id
    for update of e
),
ended as (
    update executions e
    set state = 'succeeded',
        end_reason = 'succeeded',
        result_metadata = l.result_metadata::jsonb,
        finished_at = now()
    from locked l
    where e.execution_id = l.execution_id
      and l.finished_at is null
      and l.holder = l.session_id
    returning e.execution_id, e.job_id, l.result
),
finished as (
    update jobs j
    set state = 'succeeded',
        result = e.result,
        finished_at = now(),
        updated_at = now()
    from ended e
    where j.job_id = e.job_id
      and j.state = 'active'
)
select e.execution_id, e.job_id
from ended e;

-- name: reopen_jobs
-- Redrive: the one edge out of 'failed'. The jobs are locked; each gets a new execution with a new budget.
with permit as (
    select 1
    from region
    where primary_region = :region
      and mode = 'active'
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
redriven as (
    select *
    from unnest(:job_ids::uuid[], :execution_ids::uuid[], :attempts::integer[], :deliveries::integer[])
        as r (job_id, execution_id, attempt, delivery)
),
reopened as (
    update jobs j
    set state = 'active', finished_at = null, updated_at = now()
    from redriven r
    where j.job_id = r.job_id
      and j.state = 'failed'
      and exists (select 1 from permit)
    returning j.job_id, j.capability, j.priority, j.timeout_us, r.execution_id, r.attempt, r.delivery
),
fresh as (
    insert into executions (
        execution_id, job_id, attempt, delivery, attempts_before, counted_before, capability, priority, timeout_us,
        state, due_at, created_at
    )
    select
        o.execution_id, o.job_id, o.attempt + 1, o.delivery + 1, o.attempt, 0, o.capability, o.priority, o.timeout_us,
        'queued', now(), now()
    from reopened o
    returning job_id, execution_id, capability, priority, due_at
)
select (select count(*) from permit) > 0 as permitted, f.job_id, f.execution_id, f.capability, f.priority, f.due_at
from (select 1) one
left join fresh f on true;
