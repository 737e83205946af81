-- How many executions a worker holds, and whether it has held some of them for a tenth of a second.
select
    count(*) as held,
    coalesce(min(e.claimed_at) < now() - interval '100 ms', false) as is_settled
from executions e
where e.worker_id = $1
  and e.state in ('claimed', 'running');
