-- Whether there is any table but those of Postgres itself.
select exists (
    select from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema')
);
