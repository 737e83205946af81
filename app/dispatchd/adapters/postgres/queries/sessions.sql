-- name: upsert_worker
-- Writes what a worker says of itself and locks its row: one registration of a worker id at a time.
insert into workers (worker_id, capabilities, slots, labels, session_id, registered_at)
values (:worker_id, :capabilities::text[], :slots, :labels::text::jsonb, :session_id, now())
on conflict (worker_id) do update
set capabilities = excluded.capabilities,
    slots = excluded.slots,
    labels = excluded.labels,
    session_id = excluded.session_id,
    registered_at = now();

-- name: update_worker
-- A later registration on the same stream: capabilities, labels and slots change, the session stays.
update workers
set capabilities = :capabilities::text[],
    slots = :slots,
    labels = :labels::text::jsonb
where worker_id = :worker_id
  and session_id = :session_id
  and exists (
      select 1
      from region
      where primary_region = :region
        and (:epoch::bigint is null or epoch = :epoch::bigint)
  );

-- name: worker_by_id
-- The registry's row of a worker, for a stream that goes on without a registration.
select w.worker_id, w.capabilities, w.slots, w.labels::text as labels
from workers w
where w.worker_id = :worker_id;

-- name: worker_of_execution
-- The worker an execution was assigned to, for a stream that begins with a result.
select e.worker_id from executions e where e.execution_id = :execution_id;

-- name: recent_takeovers
-- How often in the last minute a worker id was taken over by another process.
select count(*)
from worker_sessions s
where s.worker_id = :worker_id
  and s.was_takeover
  and s.started_at > now() - interval '1 minute';

-- name: lock_open_sessions
-- The sessions of a worker that have not ended, locked in id order: no claim can add to them from here on.
select s.session_id, s.process_id, s.principal, s.gateway, s.peer, s.superseded_at, s.closed_at
from worker_sessions s
where s.worker_id = :worker_id
  and s.ended_at is null
order by s.session_id
for update;

-- name: supersede_sessions
-- Marks earlier sessions of a worker as displaced. With the resume feature nothing stays on them and they end at once.
update worker_sessions
set superseded_at = coalesce(superseded_at, now()),
    ended_at = case when :ends_them::boolean then now() end
where session_id = any(:session_ids::uuid[]);

-- name: insert_session
-- Opens a session with a full lease.
insert into worker_sessions (
    session_id, worker_id, process_id, principal, gateway, peer, status, lease_expires_at, last_seen_at, was_takeover
)
select
    :session_id, :worker_id, :process_id, :principal, :gateway, :peer, 'ready',
    now() + :lease_us::bigint * interval '1 microsecond', now(), :was_takeover
from region
where primary_region = :region
  and (:epoch::bigint is null or epoch = :epoch::bigint)
returning session_id;

-- name: executions_held_by
-- What sessions hold now.
select e.execution_id, e.session_id, e.job_id
from executions e
where e.session_id = any(:session_ids::uuid[])
  and e.state in ('claimed', 'running')
order by e.execution_id;

-- name: move_executions
-- Resume: what a worker still holds goes over to its new session and burns no attempt. The executions are locked.
update executions e
set session_id = :session_id
where e.execution_id = any(:execution_ids::uuid[])
  and e.session_id = any(:from_sessions::uuid[])
  and e.state in ('claimed', 'running')
returning e.execution_id, e.job_id;

-- name: unlocked_sessions
-- Those of some sessions that nobody else has locked at this moment.
select s.session_id
from worker_sessions s
where s.session_id = any(:session_ids::uuid[])
order by s.session_id
for no key update skip locked;

-- name: renew_sessions
-- Renews the leases of the sessions that were heard, locked in the order of their ids. A session that is missing in the
-- answer is lost. Whether it still stands is looked at when it is locked, and its status is found by its place in the
-- list: a condition on ended_at, or a join, would tempt the planner to read all sessions.
with locked as materialized (
    select s.session_id, s.ended_at, s.superseded_at
    from worker_sessions s
    where s.session_id = any(:session_ids::uuid[])
      and exists (
          select 1
          from region
          where primary_region = :region
            and (:epoch::bigint is null or epoch = :epoch::bigint)
      )
    order by s.session_id
    for no key update
)
update worker_sessions s
set lease_expires_at = now() + :lease_us::bigint * interval '1 microsecond',
    last_seen_at = now(),
    status = (:statuses::text[])[array_position(:session_ids::uuid[], s.session_id)]
where s.session_id = any(array(
    select l.session_id from locked l where l.ended_at is null and l.superseded_at is null
))
returning s.session_id;

-- name: permitted
-- Whether the region row lets this process change anything.
select exists (
    select 1
    from region
    where primary_region = :region
      and (:epoch::bigint is null or epoch = :epoch::bigint)
) as yes;

-- name: session_states
-- Why sessions were not renewed.
select s.session_id, s.ended_at is not null as has_ended, s.superseded_at is not null as is_superseded
from worker_sessions s
where s.session_id = any(:session_ids::uuid[]);

-- name: mark_started
-- RUNNING, dated back by the measured age of the worker's notice. Executions that somebody else has locked, most likely
-- to end them, are left for the next time: a renewal waits for nobody. The others come back, marked or not.
with notices as (
    select n.execution_id, n.session_id, n.age_us
    from unnest(:execution_ids::uuid[], :session_ids::uuid[], :ages_us::bigint[])
        as n (execution_id, session_id, age_us)
    where exists (
        select 1
        from region
        where primary_region = :region
          and (:epoch::bigint is null or epoch = :epoch::bigint)
    )
    order by n.execution_id
),
locked as materialized (
    select l.execution_id, l.state = 'claimed' and l.session_id = n.session_id as is_meant, n.age_us
    from notices n
    cross join lateral (
        select e.execution_id, e.session_id, e.state
        from executions e
        where e.execution_id = n.execution_id
        for no key update skip locked
    ) l
),
marked as (
    update executions e
    set state = 'running',
        started_at = greatest(e.claimed_at, now() - l.age_us * interval '1 microsecond')
    from locked l
    where e.execution_id = l.execution_id
      and l.is_meant
)
select l.execution_id from locked l;

-- name: close_sessions
-- The stream is gone; the lease runs on. (Said with "is null" it would find them among all open sessions.)
update worker_sessions
set closed_at = now(),
    status = 'offline'
where session_id = any(:session_ids::uuid[])
  and coalesce(ended_at, 'infinity') = 'infinity'
  and exists (
      select 1
      from region
      where primary_region = :region
        and (:epoch::bigint is null or epoch = :epoch::bigint)
  );

-- name: held_by_earlier_sessions
-- What the earlier, not yet ended sessions of workers still hold: it fills the slots of the new one.
select s.worker_id, e.execution_id
from worker_sessions s
join executions e on e.session_id = s.session_id and e.state in ('claimed', 'running')
where s.worker_id = any(:worker_ids::text[])
  and s.superseded_at is not null
  and s.ended_at is null;
