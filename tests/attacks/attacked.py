"""An installation of real processes to attack, with tokens and audit lines on, and somebody honest who works on it.

What an attack costs is read from outside: memory and open files from the kernel, streams from `/metrics`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
from prometheus_client.parser import text_string_to_metric_families

from dispatchd import AsyncClient, Worker
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from tokens_for_tests import AUTH, token
from waiting import eventually

GROWTH_MIB = 384
"""The most that these attacks may cost a role, one after the other: what one of them has taken and the process has not
given back, the next one uses. Alone none takes more than 190 MiB."""
SPARE_FILES = 15
"""A role opens as many connections to Postgres as it needs at once, up to ten, and keeps them for a while."""
HONEST_JOB_S = 20.0
STOP_S = 12.0


class AttackedRole(RoleProcess):
    """A role whose cost can be read, and whose lines are kept."""

    def __init__(self, role: Role, name: str, environ: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self.quiet_mib = 0.0
        """What it needed before any attack."""
        self._quiet_files = 0
        grpc_port = None if role is Role.SCHEDULER else free_port()
        super().__init__(role, name, environ, grpc_port, free_port(), lambda _, line: self.lines.append(line))

    @property
    def port(self) -> int:
        """Of gRPC."""
        assert self.grpc_port is not None
        return self.grpc_port

    def note_quiet(self) -> None:
        """Takes what it needs now as what it needs when nobody attacks."""
        self.quiet_mib = self._memory_mib("VmRSS")
        self._quiet_files = self.files()
        self.lines.clear()
        # A new measurement of the peak (proc(5), clear_refs).
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def growth_mib(self) -> float:
        """By how much its memory has grown at most since `note_quiet`."""
        return self._memory_mib("VmHWM") - self.quiet_mib

    def files(self) -> int:
        """Open files and connections."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def _memory_mib(self, name: str) -> float:
        """A figure of proc(5), status."""
        [line] = [
            line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith(f"{name}:")
        ]
        return int(line.split()[1]) / 1024

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.probes_url}/metrics") as answer:
            families = list(text_string_to_metric_families(await answer.text()))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    async def is_serving(self) -> bool:
        """Whether a stranger's health check says so."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.grpc_address, options=options) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            answer: bytes = await check(b"", timeout=10.0)
        return answer == b"\x08\x01"

    async def has_let_go(self) -> bool:
        """Whether it has no more files open than when it was quiet."""
        return self.files() <= self._quiet_files + SPARE_FILES

    def unfit_lines(self) -> list[str]:
        """Lines that are no JSON object, or tell of a failure inside."""
        return [line for line in self.lines if not _is_json(line) or '"exception"' in line or "Traceback" in line]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class Site:
    """A control-plane, a scheduler, a worker-gateway; an honest client with an honest worker."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.control_plane = AttackedRole(Role.CONTROL_PLANE, "control-plane", environ)
        self.gateway = AttackedRole(Role.WORKER_GATEWAY, "worker-gateway", environ)
        self.scheduler = AttackedRole(Role.SCHEDULER, "scheduler", environ)
        self.roles = (self.control_plane, self.gateway, self.scheduler)
        self.client = AsyncClient(self.control_plane.grpc_address, token=token("honest", "operator"))
        self._worker = Worker(
            self.gateway.grpc_address, worker_id="honest-worker", token=token("honest-worker", "worker")
        )

    async def honest_job(self) -> None:
        """A new job is submitted, assigned and succeeds. Raises TimeoutError if that takes too long."""
        async with asyncio.timeout(HONEST_JOB_S):
            job = await self.client.submit("honest.double", 21, call_timeout=HONEST_JOB_S)
            assert await self.client.result(job, int, timeout=HONEST_JOB_S) == 42

    async def is_unharmed(self, *also: AttackedRole) -> None:
        """Checks that after an attack every role is as before, and never needed more memory than it may."""
        for role in (*self.roles, *also):
            assert role.running, f"{role.name}: {role.describe_end()}"
            await eventually(role.has_let_go)
            grown_mib, unfit_lines = role.growth_mib(), role.unfit_lines()
            if grown_mib >= GROWTH_MIB or unfit_lines:
                # The next attack is not to blame for this one.
                role.note_quiet()
            assert grown_mib < GROWTH_MIB, f"{role.name} grew by {grown_mib:.0f} MiB"
            assert unfit_lines == [], unfit_lines[:3]
        for role in (self.control_plane, self.gateway):
            assert await role.is_serving()
        await self.honest_job()
        await self.only_the_honest_worker_is_left()

    async def only_the_honest_worker_is_left(self) -> None:
        """Waits until the gateway has no other session. Raises TimeoutError."""

        async def is_alone() -> bool:
            return await self.gateway.metric("dispatchd_streams_open") == 1

        await eventually(is_alone)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts and stops everything."""

        @self._worker.task("honest.double")
        async def double(number: int) -> int:
            return 2 * number

        try:
            for role in self.roles:
                await role.start()
            for role in self.roles:
                await role.wait_ready()
            async with self.client:
                serving = asyncio.create_task(self._worker.serve(), name="honest worker")
                for _ in range(20):
                    await self.honest_job()
                for role in self.roles:
                    role.note_quiet()
                yield
                self._worker.stop()
                await asyncio.wait_for(serving, STOP_S)
        finally:
            for role in self.roles:
                await role.stop(STOP_S)


@asynccontextmanager
async def attacked_site(database_url: str, redis_address: str, **environ: str) -> AsyncIterator[Site]:
    """A running installation."""
    site = Site(
        {
            "DATABASE_URL": database_url,
            "REDIS_ADDRESS": redis_address,
            "LEASE_DURATION": "5s",
            # A stream that is not read so long is ended.
            "WORKER_HEARTBEAT_TTL": "4s",
            "SHUTDOWN_TIMEOUT_SECONDS": "3",
            **AUTH,
            **environ,
        }
    )
    async with site.running():
        yield site
