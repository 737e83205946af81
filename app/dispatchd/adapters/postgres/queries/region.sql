-- name: region
-- The one row that decides which region may change anything.
select r.primary_region, r.epoch, r.mode, r.changed_at from region r;

-- name: region_and_its_writer
-- The row, with the transaction that wrote it: the id stays in the row when it is frozen.
select r.primary_region, r.epoch, r.mode, r.changed_at, r.xmin::text as written_by from region r;

-- name: region_status
-- The row, whose database this is and how far it has come, and what workers still hold: one statement, one snapshot. The
-- position is read later than that snapshot, so that on a primary nothing is counted here that was written after it.
select
    r.primary_region,
    r.epoch,
    r.mode,
    r.changed_at,
    pg_is_in_recovery() as is_replica,
    (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as wal_position,
    now() as read_at,
    (select count(*) from executions e where e.state in ('claimed', 'running')) as in_flight,
    (
        select max(s.lease_expires_at)
        from worker_sessions s
        where s.ended_at is null
          and s.lease_expires_at > now()
    ) as latest_lease_end
from region r;

-- name: change_region
-- Compare-and-set on the epoch; no row comes back if the epoch is another one.
update region
set primary_region = :primary_region,
    epoch = :epoch::bigint,
    mode = :mode,
    changed_at = now()
where epoch = :expected_epoch::bigint
returning primary_region, epoch, mode, changed_at, pg_current_xact_id()::xid::text as written_by;

-- name: region_access
-- What this role may do: see the snapshots of other sessions, and write at all.
select
    quote_ident(current_user) as role,
    pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_activity,
    pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as is_read_only;

-- name: is_read_only
-- Whether nothing can be written here: this is a replica, or was made read-only by a setting.
select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as is_read_only;

-- name: older_transactions
-- Transactions of this database, other than this one, that have written something, or hold a snapshot at least as old
-- as the one that wrote the row: each may have read the row as it was before. A transaction id alone proves nothing:
-- who read the old row may have got a higher one than the flip. Transactions of other databases can't write here, a
-- parallel worker writes nothing without its leader, and autovacuum runs no statement of ours.
select
    a.pid,
    a.backend_start as backend_started_at,
    a.xact_start as started_at,
    coalesce(a.usename, '') as user_name,
    coalesce(a.application_name, '') as application,
    coalesce(a.state, '') as state,
    extract(epoch from clock_timestamp() - a.xact_start)::float8 as age_s
from pg_stat_activity a
where a.pid <> pg_backend_pid()
  and a.datname = current_database()
  and a.backend_type not in ('autovacuum worker', 'parallel worker')
  and (a.backend_xid is not null or age(a.backend_xmin) >= age(:written_by::text::xid))
  and (:begun_by::timestamptz is null or a.xact_start is null or a.xact_start <= :begun_by::timestamptz)
order by a.pid;

-- name: prepared_transactions
-- The prepared transactions of this database: they have written something, and no backend shows them.
select p.gid, p.owner::text as user_name, p.prepared as prepared_at
from pg_prepared_xacts p
where p.database = current_database()
order by p.gid;

-- name: terminate_transaction
-- Ends the backend of one transaction, unless that transaction has ended meanwhile.
select pg_terminate_backend(a.pid) as was_sent
from pg_stat_activity a
where a.pid = :pid::integer
  and a.backend_start = :backend_started_at::timestamptz
  and a.xact_start is not distinct from :started_at::timestamptz;

-- name: schema_version
-- The newest migration, and the oldest program that may run on it.
select coalesce(max(m.version), 0) as version, coalesce(max(m.oldest_code), 0) as oldest_code
from schema_migrations m;
