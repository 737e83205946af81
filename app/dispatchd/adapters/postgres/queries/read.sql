-- name: job
-- One job with its inputs and result.
select s.*, i.payload, i.metadata::text as metadata, j.result
from job_summaries s
join job_inputs i on i.job_id = s.job_id
join jobs j on j.job_id = s.job_id
where s.job_id = :job_id;

-- name: finished_among
-- Which of some jobs have ended, or are not there.
select w.job_id
from unnest(:job_ids::uuid[]) as w (job_id)
left join jobs j on j.job_id = w.job_id
where j.state is distinct from 'active';

-- name: executions_page
-- A job's executions after a delivery number, oldest first.
select
    e.execution_id, e.job_id, e.attempt, e.delivery, e.state, e.worker_id, e.error_message, e.error_type,
    e.end_reason, e.result_metadata::text as metadata, e.claimed_at, e.started_at, e.finished_at
from executions e
where e.job_id = :job_id
  and e.delivery > :after_delivery
order by e.delivery
limit :most::integer;

-- name: job_exists
-- Whether there is such a job.
select exists (select 1 from jobs j where j.job_id = :job_id) as yes;

-- name: dead_letters_page
-- Failed jobs, the last to fail first. Which ones is settled before anything else about them is read.
with page as materialized (
    select j.job_id, j.finished_at
    from jobs j
    where j.state = 'failed'
      and j.finished_at is not null
      and (:job_type::text is null or j.job_type = :job_type::text)
      and (j.finished_at, j.job_id) < (
          coalesce(:before::timestamptz, 'infinity'),
          coalesce(:before_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      )
    order by j.finished_at desc, j.job_id desc
    limit :most::integer
)
select s.*
from page p
join job_summaries s on s.job_id = p.job_id
order by p.finished_at desc, p.job_id desc;

-- name: jobs_by_id
-- Several jobs without inputs.
select s.* from job_summaries s where s.job_id = any(:job_ids::uuid[]);

-- name: workers_page
-- The registry, by worker id.
select
    w.worker_id, w.capabilities, w.slots, w.labels::text as labels, s.gateway, s.last_seen_at,
    case when s.ended_at is null and s.closed_at is null then s.status else 'offline' end as status,
    (
        select count(*)
        from worker_sessions o
        join executions e on e.session_id = o.session_id and e.state in ('claimed', 'running')
        where o.worker_id = w.worker_id
          and o.ended_at is null
    ) as held
from workers w
join worker_sessions s on s.session_id = w.session_id
where w.worker_id > :after
order by w.worker_id
limit :most::integer;

-- name: queues
-- What waits for each capability.
select
    e.capability,
    count(*) filter (where e.state = 'queued') as depth,
    coalesce(extract(epoch from now() - min(e.due_at) filter (where e.state = 'queued')), 0)::float8 as oldest_age_s,
    count(*) filter (where e.state = 'waiting') as delayed
from executions e
where e.state = 'queued' or e.state = 'waiting'
group by e.capability
order by e.capability
limit :most::integer;
