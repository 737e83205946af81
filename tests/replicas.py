"""PostgreSQL servers that follow each other: a copy replays what its source writes, and can take its place."""

import shutil
import signal
from pathlib import Path

from dispatchd.entrypoints.child_process import spawn
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from dispatchd.entrypoints.embedded_server import HOST, EmbeddedServerError, log_tail
from stores import sql
from waiting import eventually

_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    # A replica that has lost its source asks for it again after so long.
    "wal_retrieve_retry_interval": "100ms",
}
_COPY_TIMEOUT_S = 60.0
_PROMOTION_TIMEOUT_S = 60
_LONGEST_S = 60.0


class ReplicatedPostgres(EmbeddedPostgres):
    """A primary, or with a `source` a replica that begins as a copy of it and follows it by streaming."""

    def __init__(self, data_dir: Path, source: "ReplicatedPostgres | None" = None) -> None:
        super().__init__(data_dir, settings=_SETTINGS)
        self._source = source
        if source is not None:
            self._settings["primary_conninfo"] = source.connection_info

    @property
    def connection_info(self) -> str:
        """Where another server finds this one, in the words of libpq."""
        return f"host={HOST} port={self.port} user=postgres password={self._password_file.read_text()}"

    def follow(self, source: "ReplicatedPostgres") -> None:
        """Makes a replica of a primary that was stopped in order, which `source` has replayed to its end."""
        signal_file = self._cluster / "standby.signal"
        signal_file.touch()
        self._give_away(signal_file)
        self._settings["primary_conninfo"] = source.connection_info
        self.start()

    async def promote(self) -> None:
        """Makes a primary of a replica, on a timeline of its own."""
        async with sql(self.url) as session:
            assert await session.fetchval("select pg_promote(true, $1)", _PROMOTION_TIMEOUT_S)

    async def catch_up_with(self, source: "ReplicatedPostgres") -> None:
        """Returns once a replica has everything that its source has written until now."""
        async with sql(source.url) as there:
            written: str = await there.fetchval("select pg_current_wal_lsn()::text")
        async with sql(self.url) as here:
            has_come = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
            await eventually(lambda: here.fetchval(has_come, written), _LONGEST_S)

    def _make_cluster(self) -> None:
        if self._source is None:
            super()._make_cluster()
            return
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._give_away(unfinished)
        shutil.copy(self._source._password_file, self._password_file)
        command: list[str | Path] = [
            self.bin_dir / "pg_basebackup",
            f"--pgdata={unfinished}",
            f"--dbname={self._source.connection_info}",
            "--checkpoint=fast",
            "--no-sync",
        ]
        with self.log_file.open("wb") as log:
            process = spawn(command, death_signal=signal.SIGKILL, user=self._user, environ={"LC_ALL": "C"}, stdout=log)
            exit_code = process.wait(_COPY_TIMEOUT_S)
        if exit_code != 0:
            raise EmbeddedServerError(f"pg_basebackup failed in {self.data_dir}:\n{log_tail(self.log_file)}")
        signal_file = unfinished / "standby.signal"
        signal_file.touch()
        self._give_away(signal_file)
        unfinished.rename(self._cluster)
