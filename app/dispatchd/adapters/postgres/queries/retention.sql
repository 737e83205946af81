-- name: lock_finished_jobs
-- A batch of jobs that ended before the retention, the first to end first, locked; what belongs to them is deleted by
-- the next statements. Bounded in bytes too, because a large input goes in many small pieces; one job goes in any case.
with old as materialized (
    select f.job_id
    from unnest(:states::text[]) as s (state)
    cross join lateral (
        select j.job_id
        from jobs j
        where j.state = s.state
          and j.finished_at < now() - :keep_us::bigint * interval '1 microsecond'
        order by j.finished_at, j.job_id
        limit :most::integer
    ) f
    where exists (
        select 1
        from region
        where primary_region = :region
          and (:epoch::bigint is null or epoch = :epoch::bigint)
    )
    limit :most::integer
),
locked as materialized (
    select j.job_id, j.state, j.finished_at, coalesce(pg_column_size(j.result), 0) as result_bytes
    from jobs j
    where j.job_id = any(array(select o.job_id from old o))
    order by j.job_id
    for update skip locked
),
sized as (
    select
        l.job_id,
        sum(
            l.result_bytes
            + (select pg_column_size(i.payload) from job_inputs i where i.job_id = l.job_id)
        ) over (order by l.job_id rows between unbounded preceding and 1 preceding) as bytes_before
    from locked l
    where l.state = any(:states::text[])
      and l.finished_at < now() - :keep_us::bigint * interval '1 microsecond'
)
select s.job_id
from sized s
where coalesce(s.bytes_before, 0) < :most_bytes::bigint;

-- name: delete_jobs
-- Deletes locked jobs with everything that belongs to them.
with gone_executions as (
    delete from executions e where e.job_id = any(:job_ids::uuid[])
),
gone_inputs as (
    delete from job_inputs i where i.job_id = any(:job_ids::uuid[])
)
delete from jobs j where j.job_id = any(:job_ids::uuid[]);

-- name: delete_ended_sessions
-- Deletes a batch of sessions that ended before the retention, hold nothing, and are no worker's newest.
with old as materialized (
    select s.session_id
    from worker_sessions s
    where s.ended_at < now() - :keep_us::bigint * interval '1 microsecond'
      and not exists (
          select 1 from executions e where e.session_id = s.session_id and e.state in ('claimed', 'running')
      )
      and not exists (
          select 1 from workers w where w.worker_id = s.worker_id and w.session_id = s.session_id
      )
      and exists (
          select 1
          from region
          where primary_region = :region
            and (:epoch::bigint is null or epoch = :epoch::bigint)
      )
    order by s.ended_at
    limit :most::integer
    for update skip locked
)
delete from worker_sessions s using old where s.session_id = old.session_id
returning s.session_id;

-- name: delete_unseen_workers
-- Forgets a batch of workers whose newest session ended before the retention.
with over as materialized (
    select s.session_id, s.worker_id
    from worker_sessions s
    where s.ended_at < now() - :keep_us::bigint * interval '1 microsecond'
      and exists (
          select 1
          from region
          where primary_region = :region
            and (:epoch::bigint is null or epoch = :epoch::bigint)
      )
    order by s.ended_at
    limit :most::integer
),
unseen as materialized (
    select w.worker_id
    from workers w
    where w.worker_id = any(array(select o.worker_id from over o))
      and w.session_id = any(array(select o.session_id from over o))
    order by w.worker_id
    for update skip locked
)
delete from workers w using unseen u where w.worker_id = u.worker_id
returning w.worker_id;
