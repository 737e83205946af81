-- How many jobs have ended.
select count(*) as finished
from jobs j
where j.finished_at is not null;
