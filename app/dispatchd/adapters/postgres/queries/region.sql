-- name: region
-- The one row that decides which region may change anything.
select r.primary_region, r.epoch, r.mode, r.changed_at from region r;

-- name: make_region
-- Makes the row once; afterwards it decides by itself.
insert into region (primary_region, epoch, mode) values (:primary_region, 1, 'active') on conflict do nothing;

-- name: change_region
-- Compare-and-set on the epoch; returns the transaction id that every older writer must be compared with.
update region
set primary_region = :primary_region,
    epoch = :epoch::bigint,
    mode = :mode,
    changed_at = now()
where epoch = :expected_epoch::bigint
returning pg_current_xact_id()::text as xid;

-- name: older_writers
-- Backends and prepared transactions that may still write under the row as it was before the flip.
select
    a.pid,
    coalesce(a.usename, '') as user_name,
    coalesce(a.application_name, '') as application,
    coalesce(a.state, '') as state,
    coalesce(extract(epoch from now() - a.xact_start), 0)::float8 as age_s
from pg_stat_activity a
where a.pid <> pg_backend_pid()
  and a.datname = current_database()
  and a.backend_type = 'client backend'
  and (
      age(a.backend_xid) >= age(:flip_xid::text::xid)
      or age(a.backend_xmin) >= age(:flip_xid::text::xid)
  )
order by a.pid;

-- name: older_prepared
-- Prepared transactions from before the flip.
select p.gid from pg_prepared_xacts p where age(p.transaction) >= age(:flip_xid::text::xid) order by p.gid;

-- name: may_see_activity
-- Whether this role sees other sessions' snapshots.
select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as yes, pg_is_in_recovery() as is_read_only;

-- name: terminate_backend
-- Ends a backend.
select pg_terminate_backend(:pid::integer);

-- name: schema_version
-- The newest migration, and the oldest program that may run on it.
select coalesce(max(m.version), 0) as version, coalesce(max(m.oldest_code), 0) as oldest_code
from schema_migrations m;
