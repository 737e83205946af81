"""An installation of real processes to send to: one of each role, with everything about it that is watched."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]

from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from fuzz.role_logs import RoleLogs
from tokens_for_tests import AUTH

LEASE_S = 5.0
_ENVIRON = {
    "LEASE_DURATION": f"{LEASE_S:g}s",
    # Longer than this process is ever held up.
    "WORKER_HEARTBEAT_TTL": "60s",
    "SHUTDOWN_TIMEOUT_SECONDS": "3",
    "SCHEDULER_POLL_INTERVAL": "200ms",
    # One machine sends what many would.
    "REGISTRATIONS_PER_MINUTE": "1000000",
}
# No fault takes the machine's power, so nothing depends on the disk.
_POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
_LOOK_AT_MEMORY_S = 0.25
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_AT_REST = (
    "dispatchd_streams_open",
    "dispatchd_waiters",
    "dispatchd_results_held",
    "dispatchd_results_held_bytes",
    'dispatchd_queue_items{kind="submit"}',
    'dispatchd_queue_bytes{kind="submit"}',
)
_MIB = 1024 * 1024
MOST_GROWTH_MIB = 160
"""What a role may need at most beyond what it had when it was warm: 32 messages of 4 MiB at once, and a little."""

MOST_LEFT_MIB = 64
"""What may be left of that when nothing is under way any more."""


class Memory:
    """The resident set size of each process: when it was warm, at its largest, and now; in MiB."""

    def __init__(self, processes: Mapping[str, RoleProcess]) -> None:
        self._processes = {name: psutil.Process(process.pid) for name, process in processes.items()}
        self.warm: dict[str, float] = {}
        self.peak: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def look(self) -> None:
        """Notes the sizes of now; does nothing for a process that has ended."""
        for name, process in self._processes.items():
            try:
                self.last[name] = round(process.memory_info().rss / _MIB, 1)
            except psutil.NoSuchProcess:
                continue
            self.peak[name] = max(self.peak.get(name, 0.0), self.last[name])

    def now_warm(self) -> None:
        """From here on they should not grow without end."""
        self.look()
        self.warm = dict(self.last)

    def complaints(self) -> list[str]:
        """A sentence for each process that grew too much; to be asked at rest."""
        found = []
        for name, warm in self.warm.items():
            if self.peak[name] > warm + MOST_GROWTH_MIB:
                found.append(f"{name} grew from {warm:g} to {self.peak[name]:g} MiB, by more than {MOST_GROWTH_MIB}")
            if self.last[name] > warm + MOST_LEFT_MIB:
                found.append(f"{name} went from {warm:g} to {self.last[name]:g} MiB, more than {MOST_LEFT_MIB} stayed")
        return found

    def as_json(self) -> dict[str, dict[str, float]]:
        """The sizes for people and programs."""
        return {
            name: {"warm": warm, "peak": self.peak[name], "afterwards": self.last[name]}
            for name, warm in self.warm.items()
        }

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_AT_MEMORY_S)


class FuzzSite:
    """Use `running_site`."""

    def __init__(self, installation: Installation, logs: RoleLogs, *, auth: bool) -> None:
        self.installation = installation
        self.logs = logs
        self.auth = auth
        self.memory = Memory(installation.processes)
        self._pids = self._now_pids()

    def address(self, role: Role) -> str:
        """`host:port` of a role with a gRPC port."""
        [process] = self.installation.of_role(role)
        return process.grpc_address

    @property
    def addresses(self) -> dict[Role, str]:
        return {role: self.address(role) for role in (Role.CONTROL_PLANE, Role.WORKER_GATEWAY)}

    async def complaints(self) -> list[str]:
        """What is wrong with the processes now, sentence by sentence."""
        found = [
            f"{name} has ended: {process.describe_end()}"
            for name, process in self.installation.processes.items()
            if not process.running
        ]
        if found:
            return found
        if self._now_pids() != self._pids:
            found.append("a process is not the one that was started")
        async with aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as http:
            for name, process in self.installation.processes.items():
                for probe in ("livez", "readyz"):
                    async with http.get(f"{process.probes_url}/{probe}") as answer:
                        if answer.status != 200:
                            found.append(f"/{probe} of {name} is {answer.status}: {await answer.text()}")
        return found

    async def unrest(self) -> list[str]:
        """What is still held in memory, by the roles' own metrics."""
        found = []
        async with aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as http:
            for name, process in self.installation.processes.items():
                async with http.get(f"{process.probes_url}/metrics") as answer:
                    for line in (await answer.text()).splitlines():
                        metric, _, value = line.rpartition(" ")
                        if metric in _AT_REST and float(value) != 0:
                            found.append(f"{name} has {metric} {value}")
        return found

    def _now_pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.installation.processes.items()}


@asynccontextmanager
async def running_site(folder: Path, *, auth: bool) -> AsyncIterator[FuzzSite]:
    """Starts everything below `folder`; ends it with the block."""
    with RoleLogs(folder / "logs") as logs:
        environ = _ENVIRON | (AUTH if auth else {})
        installation = Installation(folder, environ, postgres_settings=_POSTGRES_SETTINGS, log=logs.take)
        async with installation:
            site = FuzzSite(installation, logs, auth=auth)
            watching = asyncio.create_task(site.memory.watch(), name="memory watch")
            try:
                yield site
            finally:
                watching.cancel()
                await asyncio.wait({watching})
