-- Every execution; one that was claimed before its session began was resumed on another stream.
select
    e.execution_id,
    e.job_id,
    e.attempt,
    e.delivery,
    e.end_reason,
    e.error_type,
    e.due_at,
    e.started_at,
    coalesce(e.claimed_at < s.started_at, false) as is_resumed
from executions e
left join worker_sessions s on s.session_id = e.session_id
order by e.job_id, e.delivery;
