"""PostgreSQL servers that follow each other's archive: a copy replays what its source has archived, and can take over.

A server archives a file of its log when it is full, or when it is told to switch to the next one. Until then a replica
lacks what is in it, like the database of a region that follows the object store of the other.
"""

import shutil
import signal
from pathlib import Path

from dispatchd.entrypoints.child_process import spawn
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.entrypoints.embedded_server import EmbeddedServerError, log_tail
from stores import sql
from waiting import eventually

_COPY_TIMEOUT_S = 60.0
_PROMOTION_TIMEOUT_S = 60
_LONGEST_S = 60.0
_LOG_FILE = "[0-9A-F]" * 24


class ReplicatedPostgres(EmbeddedPostgres):
    """A primary, or with a `source` a replica that begins as a copy of it and follows its archive."""

    def __init__(self, data_dir: Path, source: "ReplicatedPostgres | None" = None) -> None:
        archive = data_dir.absolute() / "archive"
        settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "archive_mode": "on",
            "archive_command": f"cp '%p' '{archive}/%f.new' && mv '{archive}/%f.new' '{archive}/%f'",
            # How soon a replica looks again for a file that was not there.
            "wal_retrieve_retry_interval": "50ms",
        }
        super().__init__(data_dir, settings=settings)
        self.archive = archive
        self._source = source
        if source is not None:
            self._follow_the_archive_of(source)

    def demote(self) -> None:
        """Stops a primary in order, and archives the file that a stopping server does not: with the record that it
        stopped. An operator of Postgres does so too, for without it nobody can take over from exactly there."""
        self.stop()
        for file in sorted((self._cluster / "pg_wal").glob(_LOG_FILE)):
            if not (archived := self.archive / file.name).exists():
                shutil.copy(file, archived)
                self._give_away(archived)

    def follow(self, source: "ReplicatedPostgres") -> None:
        """Makes a replica of a primary that was demoted, once `source` has replayed it to its end, and starts it."""
        self._follow_the_archive_of(source)
        self._mark_as_replica(self._cluster)
        self.start()

    async def promote(self) -> None:
        """Makes a primary of a replica, on a timeline of its own, after whatever is in the archive that it follows."""
        async with sql(self.url) as session:
            assert await session.fetchval("select pg_promote(true, $1)", _PROMOTION_TIMEOUT_S)

    async def catch_up_with(self, source: "ReplicatedPostgres") -> None:
        """Returns once a replica has everything that its source has written until now."""
        async with sql(source.url) as there:
            written: str = await there.fetchval("select pg_current_wal_lsn()::text")
            await there.execute("select pg_switch_wal()")
        async with sql(self.url) as here:
            has_come = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
            await eventually(lambda: here.fetchval(has_come, written), _LONGEST_S)

    def _follow_the_archive_of(self, source: "ReplicatedPostgres") -> None:
        self._settings["restore_command"] = f"cp '{source.archive}/%f' '%p'"

    def _mark_as_replica(self, cluster: Path) -> None:
        signal_file = cluster / "standby.signal"
        signal_file.touch()
        self._give_away(signal_file)

    def _prepare(self) -> None:
        super()._prepare()
        self.archive.mkdir(exist_ok=True)
        self._give_away(self.archive)

    def _make_cluster(self) -> None:
        if self._source is None:
            super()._make_cluster()
            return
        source = self._source
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give_away(unfinished)
        shutil.copy(source._password_file, self._password_file)
        command: list[str | Path] = [
            self.bin_dir / "pg_basebackup",
            f"--pgdata={unfinished}",
            f"--dbname={source.url}",
            "--checkpoint=fast",
            "--no-sync",
        ]
        with self.log_file.open("wb") as log:
            process = spawn(command, death_signal=signal.SIGKILL, user=self._user, environ={"LC_ALL": "C"}, stdout=log)
            exit_code = process.wait(_COPY_TIMEOUT_S)
        if exit_code != 0:
            raise EmbeddedServerError(f"pg_basebackup failed in {self.data_dir}:\n{log_tail(self.log_file)}")
        self._mark_as_replica(unfinished)
        unfinished.rename(self._cluster)
