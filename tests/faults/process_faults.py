"""Faults of whole processes: each of eight targets is killed, stopped where it is, told to end, and restarted."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol

import psutil  # type: ignore[import-untyped]

from dispatchd.entrypoints.embedded_server import EmbeddedServer
from dispatchd.entrypoints.settings import Role
from faults.events import FaultKind
from faults.fault import DOWN_S, PAST_LEASE_S, Fault
from faults.site import KIND_OF, LEASE_S, STOP_ROLE_S, FaultSite, RoleUnderFaults, ready

LOST_WORKER_S = LEASE_S + 3.0
"""How long a killed worker stays away: until its executions have to be ended, and a second more."""


class Victim(Protocol):
    """A process that can be hit."""

    kind: FaultKind
    name: str
    down_s: float

    async def kill(self) -> None:
        """Ends it with SIGKILL."""

    async def terminate(self) -> None:
        """Tells it to end, and waits until it has."""

    async def start(self) -> None:
        """Starts it again; returns when it answers."""

    def freeze(self) -> None:
        """Stops it where it is."""

    async def thaw(self) -> None:
        """Lets it go on; returns when it answers."""


class RoleVictim:
    """A control-plane, scheduler or worker-gateway."""

    down_s = DOWN_S

    def __init__(self, site: FaultSite, process: RoleUnderFaults) -> None:
        self.kind = KIND_OF[process.role]
        self.name = process.name
        self._site = site
        self._process = process

    async def kill(self) -> None:
        await self._process.kill()

    async def terminate(self) -> None:
        code = await self._process.stop(STOP_ROLE_S)
        if code != 0:
            self._site.remarks.append(f"{self.name} was told to end and {self._process.describe_end()} followed")

    async def start(self) -> None:
        await ready(self._process)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        await ready(self._process)


class WorkerVictim:
    """A worker; the next process has the same worker id."""

    kind = FaultKind.WORKER
    down_s = LOST_WORKER_S

    def __init__(self, site: FaultSite, worker_id: str) -> None:
        self.name = worker_id
        self._site = site

    async def kill(self) -> None:
        await self._site.recorders.kill(self._process)

    async def terminate(self) -> None:
        await self._site.end_recorder(self._process)

    async def start(self) -> None:
        self._site.start_worker(self.name, 50)

    def freeze(self) -> None:
        self._site.recorders.freeze(self._process)

    async def thaw(self) -> None:
        self._site.recorders.thaw(self._process)

    @property
    def _process(self) -> str:
        return self._site.worker_process(self.name)


class ServerVictim:
    """PostgreSQL or Valkey."""

    down_s = DOWN_S

    def __init__(self, site: FaultSite, kind: FaultKind, server: EmbeddedServer) -> None:
        self.kind = kind
        self.name = kind.value
        self._site = site
        self._server = server
        self._frozen: list[psutil.Process] = []

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def terminate(self) -> None:
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)
        if self.kind is FaultKind.POSTGRES:
            await self._site.postgres_answers()

    def freeze(self) -> None:
        server = psutil.Process(self._server.pid)
        server.suspend()
        self._frozen = [server, *server.children(recursive=True)]
        for process in self._frozen[1:]:
            process.suspend()

    async def thaw(self) -> None:
        for process in reversed(self._frozen):
            process.resume()
        if self.kind is FaultKind.POSTGRES:
            await self._site.postgres_answers()


Act = Callable[[Victim], Awaitable[None]]
Find = Callable[[FaultSite], AbstractAsyncContextManager[Victim]]


@asynccontextmanager
async def _standby(site: FaultSite) -> AsyncIterator[Victim]:
    async with site.alone_with(*reversed(await site.busiest(Role.SCHEDULER))) as name:
        yield RoleVictim(site, site.roles[name])


def _role(role: Role) -> Find:
    """The leader, or the process with most connections."""

    @asynccontextmanager
    async def find(site: FaultSite) -> AsyncIterator[Victim]:
        async with site.alone_with(*await site.busiest(role)) as name:
            yield RoleVictim(site, site.roles[name])

    return find


def _worker(worker_id: str) -> Find:
    @asynccontextmanager
    async def find(site: FaultSite) -> AsyncIterator[Victim]:
        async with site.alone_with(worker_id) as name:
            yield WorkerVictim(site, name)

    return find


@asynccontextmanager
async def _redis(site: FaultSite) -> AsyncIterator[Victim]:
    async with site.alone_with("redis"):
        await site.backlog()
        yield ServerVictim(site, FaultKind.REDIS, site.valkey)


@asynccontextmanager
async def _postgres(site: FaultSite) -> AsyncIterator[Victim]:
    async with site.alone_with("postgres"):
        yield ServerVictim(site, FaultKind.POSTGRES, site.postgres)


TARGETS: dict[str, Find] = {
    "scheduler_leader": _role(Role.SCHEDULER),
    "scheduler_standby": _standby,
    "worker": _worker("raw-1"),
    "sdk_worker": _worker("sdk-1"),
    "postgres": _postgres,
    "control_plane": _role(Role.CONTROL_PLANE),
    "gateway": _role(Role.WORKER_GATEWAY),
    "redis": _redis,
}


async def _kill(victim: Victim) -> None:
    await victim.kill()
    await asyncio.sleep(victim.down_s)
    await victim.start()


async def _freeze(victim: Victim) -> None:
    victim.freeze()
    try:
        await asyncio.sleep(PAST_LEASE_S)
    finally:
        await victim.thaw()


async def _terminate(victim: Victim) -> None:
    await victim.terminate()
    await asyncio.sleep(DOWN_S)
    await victim.start()


async def _restart(victim: Victim) -> None:
    await victim.terminate()
    await victim.start()


_ACTIONS: dict[str, tuple[Act, str]] = {
    "kill": (_kill, "ends with SIGKILL, stays away for some seconds and starts again"),
    "freeze": (_freeze, "stands still (SIGSTOP) for twice the lease"),
    "terminate": (_terminate, "is told to end, stays away for two seconds and starts again"),
    "restart": (_restart, "is told to end and starts again at once"),
}
_PAIRED = ("kill", "freeze")


def process_faults() -> Iterator[Fault]:
    """Every action on every target."""
    for target, find in TARGETS.items():
        for action, (act, says) in _ACTIONS.items():
            name, sentence = f"{action}_{target}", f"The {target.replace('_', ' ')} {says}."
            yield Fault(name, sentence, target, partial(_make, find, act), action in _PAIRED)


async def _make(find: Find, act: Act, site: FaultSite, fault: str) -> None:
    async with find(site) as victim:
        with site.broken(victim.kind, victim.name, fault):
            await act(victim)
