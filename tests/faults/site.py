"""One installation of real processes, two of each role, under a load that is written down; faults are made on it.

    submitters ──▶ proxy ──▶ control-planes ─┐                        ┌──▶ proxy ──▶ PostgreSQL, on a disk of its own
    workers ─────▶ proxy ──▶ gateways ───────┼─ each its own proxies ─┤
                             schedulers ─────┘                        └──▶ proxy ──▶ Valkey

The ledgers of a run are in `folder`, the logs of the roles in `folder/logs`. What ends by itself is started again and
remarked upon. Nothing here is random: whoever makes faults decides what and when.
"""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dispatchd import AsyncClient, DispatchdError
from dispatchd.adapters.postgres.migrate import migrate
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from dispatchd.entrypoints.role_process import RoleFailed, RoleProcess
from dispatchd.entrypoints.settings import Role
from faults.events import FaultBegan, FaultEnded, FaultKind, LeaderSeen, LedgerRole
from faults.ledger import SUFFIX, LedgerWriter, now_ns
from faults.recorders import RecorderFailed, Recorders, inherited_path
from faults.small_disk import SmallDisk
from tcp_proxy import TcpProxy, proxy_to

LEASE_S = 2.0
ROLES_ENVIRON = {
    "LEASE_DURATION": f"{LEASE_S:g}s",
    "WORKER_HEARTBEAT_TTL": "6s",
    "SHUTDOWN_TIMEOUT_SECONDS": "3",
}
# No fault takes the machine's power, so nothing depends on the disk.
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "max_wal_size": "128MB"}
LEADER_KEY = "dispatchd:scheduler:leader:local"
RATE_PER_S = 25.0
# More than one slot can do: what waits shows whether priorities are kept, and what Redis loses.
BURST = ("--job-types", "scarce.work", "--rate-per-s", "60", "--linger-s", "0.1", "--looks-per-s", "5")
FIRST_BURST_S = 3.0
BURST_S = 1.0
BACKLOG = 20
BACKLOG_WITHIN_S = 5.0
# Long enough that every worker holds some executions when it is hit.
HABITS = ("--slots", "16", "--work-s", "0.4")
STOP_ROLE_S = 12.0
ENDS_WITHIN_S = 60.0
_COUNT_BACKLOG = "select count(*) from executions where state = 'queued' and capability = 'scarce'"
_LEADER_POLL_S = 0.05
_LOOK_AFTER_S = 0.2

KIND_OF = {
    Role.CONTROL_PLANE: FaultKind.CONTROL_PLANE,
    Role.SCHEDULER: FaultKind.SCHEDULER,
    Role.WORKER_GATEWAY: FaultKind.GATEWAY,
}


class RoleUnderFaults(RoleProcess):
    """A role whose environment can be changed before it is started again."""

    changed_environ: Mapping[str, str] = {}

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | dict(self.changed_environ)


class FaultSite:
    """Use `running_site`. Times to wait are long enough for two cores under load."""

    def __init__(self, folder: Path, disk: SmallDisk, postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
        self.folder = folder
        self.disk = disk
        self.postgres = postgres
        self.valkey = valkey
        self.redis_password = ""
        self.roles: dict[str, RoleUnderFaults] = {}
        self.postgres_proxies: dict[str, TcpProxy] = {}
        """By the name of the role process that is on this side."""
        self.redis_proxies: dict[str, TcpProxy] = {}
        self.grpc_proxies: dict[str, TcpProxy] = {}
        self.recorders = Recorders(folder)
        self.remarks: list[str] = []
        """What should not have happened, though no rule of the checker forbids it."""
        self._nemesis = LedgerWriter(folder / f"nemesis{SUFFIX}", LedgerRole.NEMESIS, "nemesis")
        self._taken: dict[str, asyncio.Lock] = {}
        self._starts: dict[str, int] = {}
        self._bursts = 0
        self._logs: dict[str, TextIO] = {}

    # --- who is there ---------------------------------------------------------------------------------------------

    def of_role(self, role: Role) -> list[RoleUnderFaults]:
        """Both processes of a role."""
        return [process for process in self.roles.values() if process.role is role]

    async def busiest(self, role: Role) -> list[str]:
        """The names of a role's processes: the leader first, or the one with most connections of clients or workers."""
        names = [process.name for process in self.of_role(role)]
        if role is Role.SCHEDULER:
            leader = await self.leader()
            return sorted(names, key=lambda name: name != leader)
        return sorted(names, key=lambda name: -self.grpc_proxies[name].open)

    async def leader(self) -> str | None:
        """The name of the scheduler that has the leader lock, or None if nobody has or Redis does not say."""
        async with self.redis() as redis:
            owner = await _leader_owner(redis)
        return owner.partition("/")[0].rpartition("-")[0] if owner else None

    def target(self, role: Role) -> str:
        """The addresses of a role as gRPC takes them."""
        return "ipv4:" + ",".join(f"127.0.0.1:{self.grpc_proxies[each.name].port}" for each in self.of_role(role))

    @asynccontextmanager
    async def alone_with(self, *names: str) -> AsyncIterator[str]:
        """Has the first of these that no other fault works on, or waits for the first; returns its name."""
        locks = {name: self._taken.setdefault(name, asyncio.Lock()) for name in names}
        name = next((name for name, lock in locks.items() if not lock.locked()), names[0])
        async with locks[name]:
            yield name

    @contextmanager
    def broken(self, kind: FaultKind, target: str, fault: str) -> Iterator[None]:
        """Notes the begin of a fault, and its end if it could be undone."""
        self._nemesis.note(FaultBegan(now_ns(), kind, target, fault))
        yield
        self._nemesis.note(FaultEnded(now_ns(), kind, target))

    # --- servers --------------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """Without a proxy in between."""
        return self.postgres.url

    def redis(self) -> Redis:
        """A client without a proxy in between."""
        return Redis(
            host="127.0.0.1",
            port=self.valkey.port,
            password=self.redis_password,
            socket_timeout=0.5,
            socket_connect_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    async def postgres_answers(self) -> None:
        """Waits until it does, and starts it if it has ended."""
        deadline = asyncio.get_running_loop().time() + 30.0
        while True:
            if self.postgres.has_ended:
                await asyncio.to_thread(self.postgres.start)
            try:
                connection = await asyncpg.connect(self.database_url, timeout=2.0)
                await connection.close()
            except (OSError, TimeoutError, asyncpg.PostgresError):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    # --- recorders ------------------------------------------------------------------------------------------------

    def start_worker(self, worker_id: str, seed: int) -> None:
        """Starts a process of a worker: `raw-…`, `sdk-…`, or `scarce-…`, which has one slot for a capability apart."""
        count = self._starts[worker_id] = self._starts.get(worker_id, 0) + 1
        name = worker_id if count == 1 else f"{worker_id}.{count}"
        options = ["--worker-id", worker_id, "--seed", str(seed + count)]
        if not worker_id.startswith("scarce"):
            options += HABITS
        if worker_id.startswith("sdk"):
            self.recorders.start("sdk_worker", name, "--gateway", self.target(Role.WORKER_GATEWAY), *options)
            return
        gateways = self.target(Role.WORKER_GATEWAY).removeprefix("ipv4:")
        if worker_id.startswith("scarce"):
            options += ["--capability", "scarce", "--slots", "1", "--fail-share", "0", "--give-back-share", "0"]
        self.recorders.start("raw_worker", name, "--gateways", gateways, *options)

    def worker_process(self, worker_id: str) -> str:
        """The name of the newest process of a worker at the recorders."""
        count = self._starts[worker_id]
        return worker_id if count == 1 else f"{worker_id}.{count}"

    def start_load(self, seed: int) -> None:
        """Starts workers and submitters."""
        for number, worker_id in enumerate(("raw-1", "raw-2", "raw-3", "sdk-1", "sdk-2", "scarce-1")):
            self.start_worker(worker_id, seed + 100 * number)
        target = ("--target", self.target(Role.CONTROL_PLANE))
        for number in (1, 2):
            self.recorders.start(
                "submitter",
                f"client-{number}",
                *target,
                *("--name", f"client-{number}", "--seed", str(seed + 1000 * number)),
                *("--job-types", "faults.work,faults.thread", "--rate-per-s", f"{RATE_PER_S}", "--duration-s", "86400"),
            )
        self._start_burst(seed, FIRST_BURST_S)

    def _start_burst(self, seed: int, duration_s: float) -> None:
        self._bursts += 1
        name = f"burst-{self._bursts}"
        target = ("--target", self.target(Role.CONTROL_PLANE))
        options = ("--name", name, "--seed", str(seed), "--duration-s", f"{duration_s}")
        self.recorders.start("submitter", name, *target, *options, *BURST)

    async def backlog(self) -> None:
        """Makes one of ready executions, where it can: with other faults at the same time perhaps nothing is taken."""
        self._start_burst(self._bursts, BURST_S)
        deadline = asyncio.get_running_loop().time() + BACKLOG_WITHIN_S
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self.database_url, timeout=BACKLOG_WITHIN_S)
            try:
                while await connection.fetchval(_COUNT_BACKLOG, timeout=BACKLOG_WITHIN_S) < BACKLOG:
                    if asyncio.get_running_loop().time() > deadline:
                        break
                    await asyncio.sleep(0.05)
            finally:
                connection.terminate()

    async def works_again(self, within_s: float) -> float:
        """How many seconds pass until a new job has been submitted and done. Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(within_s), AsyncClient(self.target(Role.CONTROL_PLANE)) as client:
            while True:
                with suppress(DispatchdError):
                    job = await client.submit(
                        "faults.work", {"number": 0}, priority=9, max_attempts=1, call_timeout=within_s
                    )
                    await client.wait(job, timeout=within_s)
                    return loop.time() - began
                await asyncio.sleep(0.1)

    async def end_load(self) -> None:
        """Ends the submitters, waits until every job has ended or the time is over, and ends the workers."""
        names = list(self.recorders.names)
        await self._end_recorders([name for name in names if not name.startswith(("raw", "sdk", "scarce"))])
        deadline = asyncio.get_running_loop().time() + ENDS_WITHIN_S
        connection = await asyncpg.connect(self.database_url, timeout=10.0)
        try:
            while await connection.fetchval("select count(*) from jobs where state = 'active'"):
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0.2)
        finally:
            await connection.close()
        await self._end_recorders([name for name in names if name.startswith(("raw", "sdk", "scarce"))])

    async def _end_recorders(self, names: list[str]) -> None:
        for name in names:
            await self.end_recorder(name)

    async def end_recorder(self, name: str) -> None:
        """Ends a recording process in order; if it does not end well, that is remarked upon."""
        try:
            # A burst ends by itself, and can't be told to while it does.
            await (self.recorders.ended(name) if name.startswith("burst") else self.recorders.stop(name))
        except RecorderFailed as failure:
            self.remarks.append(str(failure))

    # --- what goes on all the time --------------------------------------------------------------------------------

    async def watch_leader(self) -> None:
        """Notes each change of the leader lock."""
        seen: str | None = None
        async with self.redis() as redis:
            while True:
                owner = await _leader_owner(redis)
                if owner is not None and owner != seen:
                    seen = owner
                    self._nemesis.note(LeaderSeen(now_ns(), owner))
                await asyncio.sleep(_LEADER_POLL_S)

    async def look_after_roles(self) -> None:
        """Starts roles and servers again that ended though no fault works on them."""
        while True:
            await asyncio.sleep(_LOOK_AFTER_S)
            for name, process in self.roles.items():
                lock = self._taken.setdefault(name, asyncio.Lock())
                if process.running or lock.locked():
                    continue
                async with lock:
                    self.remarks.append(f"{name} ended by itself ({process.describe_end()}) at {now_ns() / 1e9:.3f} s")
                    await process.start()
            for name, server in (("postgres", self.postgres), ("redis", self.valkey)):
                lock = self._taken.setdefault(name, asyncio.Lock())
                if server.has_ended and not lock.locked():
                    async with lock:
                        self.remarks.append(f"{server.title} ended by itself at {now_ns() / 1e9:.3f} s")
                        await asyncio.to_thread(server.start)

    def log(self, name: str, line: str) -> None:
        """Takes a line that a role wrote; with a time of the ledgers' clock."""
        if name not in self._logs:
            folder = self.folder / "logs"
            folder.mkdir(exist_ok=True)
            self._logs[name] = (folder / f"{name}.log").open("a", encoding="utf-8", buffering=1)
        self._logs[name].write(f"{now_ns() / 1e9:.6f} {line}\n")

    async def stop_roles(self) -> None:
        """Stops all, also those that are stopped where they are."""
        for process in self.roles.values():
            process.send_signal(signal.SIGCONT)
        async with asyncio.TaskGroup() as group:
            for process in self.roles.values():
                group.create_task(process.stop(STOP_ROLE_S), name=f"stop {process.name}")
        for file in self._logs.values():
            file.close()


@asynccontextmanager
async def running_site(folder: Path) -> AsyncIterator[FaultSite]:
    """Starts an installation without any load; everything ends with the block. `folder` must not exist."""
    folder.mkdir(parents=True)
    password = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(SmallDisk(folder / "disk"))
        postgres = EmbeddedPostgres(folder / "disk" / "postgres", settings=POSTGRES_SETTINGS)
        valkey = EmbeddedValkey(folder / "valkey", password=password)
        for server in (postgres, valkey):
            stack.callback(server.stop)
            await asyncio.to_thread(server.start)
        await migrate(postgres.url, primary_region="local")
        site = FaultSite(folder, disk, postgres, valkey)
        site.redis_password = password
        await _make_roles(site, stack)
        stack.push_async_callback(site.stop_roles)
        stack.callback(site.recorders.kill_all)
        for process in site.roles.values():
            await process.start()
        for process in site.roles.values():
            await process.wait_ready()
        tasks = [
            asyncio.create_task(site.watch_leader(), name="leader watch"),
            asyncio.create_task(site.look_after_roles(), name="role watch"),
        ]
        try:
            yield site
        finally:
            await _end(tasks)
            site.remarks += [f"a watch failed: {task.exception()!r}" for task in tasks if not task.cancelled()]


async def _leader_owner(redis: Redis) -> str | None:
    """What the leader lock says; empty if nobody has it, None if Redis does not say."""
    try:
        async with asyncio.timeout(1.0):
            owner = await redis.get(LEADER_KEY)
    except (RedisError, OSError, TimeoutError):
        return None
    return "" if owner is None else str(owner)


async def _end(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancels until all have ended: before Python 3.12 a library's `asyncio.wait_for` may swallow a cancel."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


async def _make_roles(site: FaultSite, stack: AsyncExitStack) -> None:
    for role in Role:
        for name in (f"{role.value}-1", f"{role.value}-2"):
            postgres = site.postgres_proxies[name] = await stack.enter_async_context(proxy_to(site.postgres.address))
            redis = site.redis_proxies[name] = await stack.enter_async_context(proxy_to(site.valkey.address))
            environ = (
                ROLES_ENVIRON
                | inherited_path()
                | {
                    "DATABASE_URL": site.postgres.url.replace(f":{site.postgres.port}/", f":{postgres.port}/"),
                    "REDIS_ADDRESS": f"127.0.0.1:{redis.port}",
                    "REDIS_PASSWORD": site.redis_password,
                }
            )
            grpc_port = None if role is Role.SCHEDULER else free_port()
            process = RoleUnderFaults(role, name, environ, grpc_port, free_port(), site.log)
            if grpc_port is not None:
                site.grpc_proxies[name] = await stack.enter_async_context(proxy_to(process.grpc_address))
            site.roles[name] = process


async def ready(process: RoleProcess) -> None:
    """Waits until it is; a role that ends while it starts, because a server is away, is started again."""
    async with asyncio.timeout(60.0):
        while True:
            try:
                await process.start()
                await process.wait_ready(timeout_s=60.0)
            except RoleFailed:
                await asyncio.sleep(0.2)
            else:
                return
