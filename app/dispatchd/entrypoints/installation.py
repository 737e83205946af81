"""A whole installation on one machine: PostgreSQL, Valkey and the three roles as child processes.

`dispatchd dev`, the demo and the tests use it. DATABASE_URL and REDIS_ADDRESS in its environment replace the embedded
servers. Whatever it started ends with it.
"""

import asyncio
import fcntl
import secrets
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TextIO

from dispatchd.adapters.postgres.migrate import migrate
from dispatchd.entrypoints.child_process import free_port, port_is_free
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from dispatchd.entrypoints.embedded_server import EmbeddedServer, EmbeddedServerError
from dispatchd.entrypoints.role_process import HOST, Log, RoleProcess
from dispatchd.entrypoints.settings import Role, load_database_settings, load_settings

ANY_FREE_PORT = 0

_LOCK = "lock"
_LOOK_AFTER_SERVERS_S = 0.5
_FIRST_RESTART_DELAY_S = 0.5
_LONGEST_RESTART_DELAY_S = 15.0
_STABLE_AFTER_S = 30.0
# A role ends itself by force five seconds after that timeout.
_BEYOND_SHUTDOWN_TIMEOUT_S = 8.0


class InstallationError(Exception):
    """The installation can't start here; the message says what to change."""


class Installation:
    """Starts and stops everything in order; use it with `async with`, or call `start` and `stop`.

    `environ` is the environment of the roles, in which the addresses of the servers, the ports and the instance ids are
    filled in. Every process has a name: `control-plane`, `worker-gateway`, `worker-gateway-2` and so on. With the
    default ports the control-plane listens on 8080 and the gateways from 8081 up; metrics are on 9100 (control-plane),
    9101 (scheduler) and from 9102 up. A port of 0 means any free ones. Lines that processes write go to `log`, by
    default into files below `data_dir/logs`.
    """

    def __init__(
        self,
        data_dir: Path,
        environ: Mapping[str, str],
        *,
        control_planes: int = 1,
        schedulers: int = 1,
        worker_gateways: int = 1,
        grpc_port: int = ANY_FREE_PORT,
        metrics_port: int = ANY_FREE_PORT,
        postgres_settings: Mapping[str, str] | None = None,
        log: Log | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.postgres: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None
        self.processes: dict[str, RoleProcess] = {}
        self._environ = dict(environ)
        # In the order in which they start; the ports follow it too.
        self._counts = {
            Role.CONTROL_PLANE: control_planes,
            Role.SCHEDULER: schedulers,
            Role.WORKER_GATEWAY: worker_gateways,
        }
        self._grpc_port = grpc_port
        self._metrics_port = metrics_port
        self._postgres_settings = dict(postgres_settings or {})
        self._log = log or self._log_to_file
        self._files: dict[str, TextIO] = {}
        self._embeds_postgres = not environ.get("DATABASE_URL")
        self._embeds_valkey = not environ.get("REDIS_ADDRESS")
        self._shutdown_s = _BEYOND_SHUTDOWN_TIMEOUT_S

    @property
    def database_url(self) -> str:
        """Known once `start` has started."""
        return self._environ["DATABASE_URL"]

    @property
    def redis_address(self) -> str:
        """`host:port` or `rediss://host:port`; known once `start` has started."""
        return self._environ["REDIS_ADDRESS"]

    @property
    def environ(self) -> dict[str, str]:
        """The environment that all roles share, for commands that work on this installation."""
        return dict(self._environ)

    def of_role(self, role: Role) -> list[RoleProcess]:
        """All processes of one role."""
        return [process for process in self.processes.values() if process.role is role]

    async def start(self) -> None:
        """Starts what is not running and returns once every role is ready.

        Raises:
            InstallationError: if another installation uses the folder, or a port is taken.
            SettingsError: if the environment has mistakes; it lists all of them.
            EmbeddedServerError: if PostgreSQL or Valkey can't be found or does not start.
            RoleFailed: if a role does not get ready.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock_folder()
        try:
            await self._start_servers()
            self._make_processes()
            database = load_database_settings(self._environ)
            await migrate(database.database_url, primary_region=database.primary_region)
            for process in self.processes.values():
                await process.start()
            for process in self.processes.values():
                await process.wait_ready()
        except BaseException:
            await asyncio.shield(self.stop())
            raise

    async def supervise(self) -> None:
        """Starts roles and servers again that end by themselves, roles later and later if they don't last; runs until
        it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for server in self._servers():
                tasks.create_task(self._keep_server_running(server), name=f"keep {server.title} running")
            for process in self.processes.values():
                tasks.create_task(self._keep_running(process), name=f"keep {process.name} running")

    async def stop(self) -> None:
        """Stops the roles, all at once, then the servers; each within SHUTDOWN_TIMEOUT_SECONDS and a little more."""
        async with asyncio.TaskGroup() as tasks:
            for process in self.processes.values():
                tasks.create_task(process.stop(self._shutdown_s), name=f"stop {process.name}")
        for server in self._servers():
            await _in_thread(server.stop)
        for file in self._files.values():
            file.close()
        self._files.clear()

    def kill(self) -> None:
        """Ends all roles at once, without waiting; `stop` has less to do then."""
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(self.stop())

    def _lock_folder(self) -> None:
        """Keeps two installations from using one folder; the kernel frees it when this process ends."""
        if _LOCK in self._files:
            return
        lock = (self.data_dir / _LOCK).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.close()
            raise InstallationError(
                f"Another installation is running in {self.data_dir}: stop it, or use another folder."
            ) from exc
        self._files[_LOCK] = lock

    async def _start_servers(self) -> None:
        if self._embeds_postgres:
            if self.postgres is None:
                self.postgres = EmbeddedPostgres(self.data_dir / "postgres", settings=self._postgres_settings)
            await _in_thread(self.postgres.start)
            self._environ["DATABASE_URL"] = self.postgres.url
        if self._embeds_valkey:
            if self.valkey is None:
                password = secrets.token_hex(16)
                self.valkey = EmbeddedValkey(self.data_dir / "valkey", password=password)
                self._environ |= {"REDIS_ADDRESS": self.valkey.address, "REDIS_PASSWORD": password, "REDIS_DB": "0"}
            await _in_thread(self.valkey.start)

    def _make_processes(self) -> None:
        """Settles names and ports once, and checks the settings that each process will read."""
        if self.processes:
            return
        grpc_port, metrics_port = self._grpc_port, self._metrics_port
        processes = {}
        for role, count in self._counts.items():
            for number in range(1, count + 1):
                name = role.value if number == 1 else f"{role.value}-{number}"
                has_grpc = role is not Role.SCHEDULER
                process = RoleProcess(
                    role,
                    name,
                    self._environ,
                    _settled_port(grpc_port, name, "gRPC") if has_grpc else None,
                    _settled_port(metrics_port, name, "metrics"),
                    self._log,
                )
                settings = load_settings(role, process.environ)
                self._shutdown_s = settings.shutdown_timeout.total_seconds() + _BEYOND_SHUTDOWN_TIMEOUT_S
                processes[name] = process
                grpc_port += bool(has_grpc and grpc_port != ANY_FREE_PORT)
                metrics_port += bool(metrics_port != ANY_FREE_PORT)
        self.processes = processes

    async def _keep_running(self, process: RoleProcess) -> None:
        loop = asyncio.get_running_loop()
        delay_s = _FIRST_RESTART_DELAY_S
        while True:
            started = loop.time()
            await process.wait_ended()
            if loop.time() - started > _STABLE_AFTER_S:
                delay_s = _FIRST_RESTART_DELAY_S
            self._log(process.name, f"ended ({process.describe_end()}) and starts again in {delay_s:g} s")
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_RESTART_DELAY_S)
            try:
                await process.start()
            except OSError as exc:
                self._log(process.name, f"could not be started: {exc}")

    async def _keep_server_running(self, server: EmbeddedServer) -> None:
        while True:
            await asyncio.sleep(_LOOK_AFTER_SERVERS_S)
            if not server.has_ended:
                continue
            self._log(server.title, "ended and starts again")
            try:
                await _in_thread(server.start)
            except (EmbeddedServerError, OSError) as exc:
                self._log(server.title, f"could not be started, and is tried again: {exc}")
            else:
                self._log(server.title, "runs again")

    def _servers(self) -> list[EmbeddedServer]:
        """What to stop after the roles, in this order."""
        return [server for server in (self.valkey, self.postgres) if server is not None]

    def _log_to_file(self, name: str, line: str) -> None:
        if name not in self._files:
            folder = self.data_dir / "logs"
            folder.mkdir(exist_ok=True)
            self._files[name] = (folder / f"{name}.log").open("a", encoding="utf-8", buffering=1)
        self._files[name].write(line + "\n")


def _settled_port(port: int, name: str, purpose: str) -> int:
    if port == ANY_FREE_PORT:
        return free_port(HOST)
    if not port_is_free(port, ""):
        raise InstallationError(f"The {purpose} port {port} of {name} is taken: stop who uses it, or choose another.")
    return port


async def _in_thread(call: Callable[[], object]) -> None:
    """Runs a blocking call to its end, even if the caller is cancelled: a server is never left half started."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
