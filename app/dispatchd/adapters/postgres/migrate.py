"""Versioned, forward-only migrations, safe when several processes start them at the same moment.

A file is `NNNN_name.sql` and opens with `-- oldest code: N`: the oldest schema version a program may have been
written for and still work after this migration. A program refuses a schema that is older than what it was written
for, and one whose migrations exclude it; so during a rolling update release N-1 runs on schema N.

A replica gets its schema from its primary, like everything else: there is nothing to migrate there, and a program that
needs a newer schema ends, and is started again, until the replica has caught up.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from dispatchd.adapters.postgres.database import Database, translated
from dispatchd.adapters.postgres.queries import REGION
from dispatchd.application.ports import BatchRejected

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_OLDEST_CODE = re.compile(r"-- oldest code: (\d+)")
_LOCK = 0x6469_7370_6174_6368  # "dispatch": one migration at a time in a database
_CONNECT_TIMEOUT_S = 10
_UNDEFINED_TABLE = "42P01"
_LEDGER = """
create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    sha256 text not null,
    oldest_code integer not null,
    applied_at timestamptz not null default now()
)
"""


class SchemaMismatch(Exception):
    """The schema in the database and this program don't fit; the text names both versions."""


class ReadOnlyDatabase(Exception):
    """Nothing can be written here, so nothing was applied."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. `oldest_code` is a schema version."""

    version: int
    name: str
    sql: str
    oldest_code: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations() -> list[Migration]:
    """The migrations of this program, in order."""
    found = []
    for entry in files(f"{__package__}.migrations").iterdir():
        if (match := _FILE.fullmatch(entry.name)) is not None:
            sql = entry.read_text("utf-8")
            oldest = _OLDEST_CODE.match(sql)
            if oldest is None:
                raise ValueError(f"{entry.name} must open with '-- oldest code: N'")
            found.append(Migration(int(match[1]), match[2], sql, int(oldest[1])))
    return sorted(found, key=lambda migration: migration.version)


def needed_version() -> int:
    """The schema version this program was written for."""
    return read_migrations()[-1].version


async def migrate(database_url: str, *, primary_region: str = "local") -> list[Migration]:
    """Applies what is missing, each step in a transaction of its own, and makes the region row if there is none.

    Returns the steps it applied. Waits for another process that migrates. Raises SchemaMismatch if a step that
    was applied reads differently today, and ReadOnlyDatabase, at once, on a database that takes no writes.
    """
    with translated():
        connection = await asyncpg.connect(database_url, timeout=_CONNECT_TIMEOUT_S)
        try:
            if await connection.fetchval(REGION["is_read_only"].sql):
                raise ReadOnlyDatabase("this database is read-only: a replica gets its schema from its primary")
            await connection.execute("select pg_advisory_lock($1)", _LOCK)
            await connection.execute(_LEDGER)
            applied = {
                row["version"]: row["sha256"]
                for row in await connection.fetch("select version, sha256 from schema_migrations")
            }
            done = []
            for migration in read_migrations():
                if migration.version in applied:
                    if applied[migration.version] != migration.sha256:
                        raise SchemaMismatch(
                            f"migration {migration.version:04} {migration.name} was applied in another wording: "
                            "a migration is never edited, add a new one"
                        )
                    continue
                await _apply(connection, migration)
                done.append(migration)
            await connection.execute(
                "insert into region (primary_region, epoch, mode) values ($1, 1, 'active') on conflict do nothing",
                primary_region,
            )
            return done
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT_S)


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migrations (version, name, sha256, oldest_code) values ($1, $2, $3, $4)",
            migration.version,
            migration.name,
            migration.sha256,
            migration.oldest_code,
        )


async def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless this program can work with the schema that is there."""
    ours = needed_version()
    theirs, oldest_code = await _version_of(database)
    if theirs < ours:
        advice = (
            "it is read-only, so migrate its primary, and start again once it has caught up"
            if await _is_read_only(database)
            else "run `dispatchd migrate`"
        )
        raise SchemaMismatch(f"the database has schema version {theirs}, this program needs {ours}: {advice}")
    if oldest_code > ours:
        raise SchemaMismatch(
            f"the database has schema version {theirs}, which excludes programs written for a version before "
            f"{oldest_code}; this one was written for {ours}: install a newer release"
        )


async def _is_read_only(database: Database) -> bool:
    async with database.connection() as connection:
        row = await connection.row(REGION["is_read_only"])
    return row is not None and bool(row["is_read_only"])


async def _version_of(database: Database) -> tuple[int, int]:
    try:
        async with database.connection() as connection:
            row = await connection.row(REGION["schema_version"])
    except BatchRejected as exc:
        if exc.sqlstate == _UNDEFINED_TABLE:
            return 0, 0
        raise
    return (0, 0) if row is None else (row["version"], row["oldest_code"])
