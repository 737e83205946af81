-- name: lock_finished_jobs
-- A batch of jobs that ended before the retention, locked; what belongs to them is deleted by the next statements.
select j.job_id
from jobs j
where j.state = any(:states::text[])
  and j.finished_at < now() - :keep_us::bigint * interval '1 microsecond'
  and exists (
      select 1
      from region
      where primary_region = :region
        and (:epoch::bigint is null or epoch = :epoch::bigint)
  )
order by j.job_id
limit :most::integer
for update skip locked;

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
-- Deletes a batch of sessions that ended before the retention and hold nothing.
with old as materialized (
    select s.session_id
    from worker_sessions s
    where s.ended_at < now() - :keep_us::bigint * interval '1 microsecond'
      and not exists (
          select 1 from executions e where e.session_id = s.session_id and e.state in ('claimed', 'running')
      )
      and not exists (select 1 from workers w where w.session_id = s.session_id)
      and exists (
          select 1
          from region
          where primary_region = :region
            and (:epoch::bigint is null or epoch = :epoch::bigint)
      )
    order by s.session_id
    limit :most::integer
    for update skip locked
)
delete from worker_sessions s using old where s.session_id = old.session_id
returning s.session_id;

-- name: delete_unseen_workers
-- Forgets workers whose last session ended before the retention.
delete from workers w
using worker_sessions s
where s.session_id = w.session_id
  and s.ended_at < now() - :keep_us::bigint * interval '1 microsecond'
  and exists (
      select 1
      from region
      where primary_region = :region
        and (:epoch::bigint is null or epoch = :epoch::bigint)
  )
returning w.worker_id;
