"""The roles inside the test's own event loop: the real `serve` of each over the real servers, with short leases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc
import grpc.aio
from redis.asyncio import Redis

from dispatchd.entrypoints import control_plane, scheduler, worker_gateway
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.lifecycle import Serve, open_backends
from dispatchd.entrypoints.settings import Role, load_settings
from gateway.facts import eventually

_SERVE: dict[Role, Serve] = {
    Role.CONTROL_PLANE: control_plane.serve,
    Role.SCHEDULER: scheduler.serve,
    Role.WORKER_GATEWAY: worker_gateway.serve,
}
_PATIENCE_S = 20.0
READY_QUEUES = "dispatchd:ready:local"


class RunningRole:
    """One role, serving until `stop` or the end of the block."""

    def __init__(self, role: Role, environ: dict[str, str]) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._role = role
        self._settings = load_settings(role, {"METRICS_PORT": "0", "GRPC_PORT": str(self.port), **environ})
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve(), name=f"role {self._role}")
        if self._role is not Role.SCHEDULER:
            await eventually(self._answers, f"{self._role} serves")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def ask_to_stop(self) -> None:
        """What SIGTERM does."""
        self._stop.set()

    async def stop(self) -> None:
        """Ends the role in order; raises what it failed with."""
        self.ask_to_stop()
        if self._task is not None:
            await asyncio.wait_for(self._task, _PATIENCE_S)

    async def crash(self) -> None:
        """Ends the role without any of its last steps, as far as a task can."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _serve(self) -> None:
        async with open_backends(self._settings) as backends:
            await _SERVE[self._role](self._settings, backends, self._stop)

    async def _answers(self) -> bool:
        if self._task is not None and self._task.done():
            self._task.result()
        async with grpc.aio.insecure_channel(self.address) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                answer: bytes = await check(b"", timeout=1.0)
            except grpc.aio.AioRpcError:
                return False
        return answer == b"\x08\x01"


class Site:
    """What the roles of one test share."""

    def __init__(self, database_url: str, redis_address: str, **environ: str) -> None:
        self.environ = {
            "DATABASE_URL": database_url,
            "REDIS_ADDRESS": redis_address,
            "LEASE_DURATION": "3s",
            "WORKER_HEARTBEAT_TTL": "5s",
            "SHUTDOWN_TIMEOUT_SECONDS": "3",
            "SCHEDULER_POLL_INTERVAL": "200ms",
            **environ,
        }

    async def mark_ready_queues_complete(self) -> None:
        """What a scheduler does when it has looked through an empty installation: then claims come from Redis."""
        async with Redis.from_url(f"redis://{self.environ['REDIS_ADDRESS']}") as redis:
            await redis.set(f"{READY_QUEUES}:epoch", 1)

    def role(self, role: Role, **environ: str) -> RunningRole:
        """A role of this site; `environ` has what is different for this one."""
        return RunningRole(role, self.environ | environ)

    def gateway(self, **environ: str) -> RunningRole:
        return self.role(Role.WORKER_GATEWAY, **{"INSTANCE_ID": "gateway-1", **environ})

    def scheduler(self, **environ: str) -> RunningRole:
        return self.role(Role.SCHEDULER, **environ)

    @asynccontextmanager
    async def control_plane(self) -> AsyncIterator[RunningRole]:
        async with self.role(Role.CONTROL_PLANE) as running:
            yield running
