-- Every job with its size in the result, if it has one.
select
    j.job_id,
    j.state,
    j.created_at,
    j.finished_at,
    j.result
from jobs j
order by j.job_id;
