-- name: end_expired_sessions
-- Ends sessions whose lease is over: one update of each one's own row, checked again once it is locked.
with permit as (
    select 1
    from region
    where primary_region = :region
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
expired as materialized (
    select s.session_id
    from worker_sessions s
    where s.ended_at is null
      and s.lease_expires_at < now()
      and exists (select 1 from permit)
    order by s.session_id
    limit :most::integer
    for no key update skip locked
)
update worker_sessions s
set ended_at = now(),
    status = 'offline'
from expired x
where s.session_id = x.session_id
returning s.session_id, s.worker_id;

-- name: next_lease_end
-- When the next lease runs out, as a duration in seconds from now; null without open sessions.
select extract(epoch from min(s.lease_expires_at) - now())::float8 as seconds
from worker_sessions s
where s.ended_at is null;

-- name: executions_to_recover
-- Claimed or running executions whose session has ended or is missing, and those past their deadline. What is held is
-- found first, as a whole, for in the order of the ids the planner would walk through every execution there is.
with held as materialized (
    select e.execution_id, e.session_id, e.deadline_at
    from executions e
    where e.state in ('claimed', 'running')
)
select h.execution_id
from held h
left join worker_sessions s on s.session_id = h.session_id
where s.session_id is null
   or s.ended_at is not null
   or h.deadline_at <= now()
order by h.execution_id
limit :most::integer;

-- name: next_deadline
-- When the next running attempt times out, as a duration in seconds from now; null if nothing runs.
select extract(epoch from min(e.deadline_at) - now())::float8 as seconds
from executions e
where e.state in ('claimed', 'running');

-- name: queue_due_executions
-- Waiting executions whose due time has come become ready.
with permit as (
    select 1
    from region
    where primary_region = :region
      and (:epoch::bigint is null or epoch = :epoch::bigint)
),
due as materialized (
    select e.execution_id
    from executions e
    where e.state = 'waiting'
      and e.due_at <= now()
      and exists (select 1 from permit)
    order by e.due_at, e.execution_id
    limit :most::integer
    for update skip locked
)
update executions e
set state = 'queued'
from due d
where e.execution_id = d.execution_id
returning e.execution_id, e.capability, e.priority, e.due_at;

-- name: next_due
-- When the next waiting execution becomes due, as a duration in seconds from now; null if none waits.
select extract(epoch from e.due_at - now())::float8 as seconds
from executions e
where e.state = 'waiting'
order by e.due_at
limit 1;

-- name: ready_capabilities
-- The capabilities that have ready executions, found by skipping through the index.
with recursive skip as (
    (select e.capability from executions e where e.state = 'queued' order by e.capability limit 1)
    union all
    select (
        select e.capability
        from executions e
        where e.state = 'queued'
          and e.capability > s.capability
        order by e.capability
        limit 1
    )
    from skip s
    where s.capability is not null
)
select s.capability from skip s where s.capability is not null limit :most::integer;

-- name: ready_page
-- A page of one capability's ready executions in queue order, after a given one. Two ranges of the index: the rest of
-- that priority, then the lower ones. One comparison of all three could not begin within the index.
select r.execution_id, r.capability, r.priority, r.due_at
from (
    (
        select e.execution_id, e.capability, e.priority, e.due_at
        from executions e
        where e.state = 'queued'
          and e.capability = :capability
          and e.priority = :after_priority::integer
          and (e.due_at, e.execution_id) > (:after_due_at::timestamptz, :after_id::uuid)
        order by e.due_at, e.execution_id
        limit :most::integer
    )
    union all
    (
        select e.execution_id, e.capability, e.priority, e.due_at
        from executions e
        where e.state = 'queued'
          and e.capability = :capability
          and e.priority <= coalesce(:after_priority::integer - 1, 2147483647)
        order by e.priority desc, e.due_at, e.execution_id
        limit :most::integer
    )
) r
order by r.priority desc, r.due_at, r.execution_id
limit :most::integer;

-- name: oldest_of_each_queue
-- The age of the oldest ready execution of each capability and priority, a page of such pairs after a given one. Within
-- a pair the index is in the order of the due times, so that each pair costs two descents, however many wait.
with recursive pair as (
    select :after_capability::text as capability, :after_priority::bigint as priority, null::timestamptz as due_at
    union all
    select next.capability, next.priority, next.due_at
    from pair p
    cross join lateral (
        (
            select e.capability, e.priority::bigint as priority, e.due_at
            from executions e
            where e.state = 'queued'
              and e.capability = p.capability
              and e.priority < p.priority
            order by e.priority desc, e.due_at
            limit 1
        )
        union all
        (
            select e.capability, e.priority::bigint as priority, e.due_at
            from executions e
            where e.state = 'queued'
              and e.capability > p.capability
            order by e.capability, e.priority desc, e.due_at
            limit 1
        )
        order by capability, priority desc
        limit 1
    ) next
)
select p.capability, p.priority, extract(epoch from now() - p.due_at)::float8 as age_s
from pair p
where p.due_at is not null
limit :most::integer;

-- name: clock
-- What the reaper compares: the database's time and start, and the region row's last change, as ages in seconds.
select
    extract(epoch from now() - pg_postmaster_start_time())::float8 as since_start_s,
    extract(epoch from now() - r.changed_at)::float8 as since_region_change_s
from region r;
