"""What must be true when everything was sent: all are alive and at rest, honest callers get what they ask for."""

import asyncio
import time

import grpc
import grpc.aio

from dispatchd.entrypoints.settings import Role
from fuzz import honest, stored
from fuzz.site import FuzzSite

_REST_WITHIN_S = 60.0
_LOOK_AGAIN_S = 0.2
_HEALTH_SERVICES = {
    Role.CONTROL_PLANE: ("", "dispatchd.v1.JobService", "dispatchd.v1.OperatorService"),
    Role.WORKER_GATEWAY: ("", "dispatchd.v1.WorkerService"),
}


async def look(site: FuzzSite) -> list[str]:
    """What is not, sentence by sentence."""
    found = await site.complaints()
    if not all(process.running for process in site.installation.processes.values()):
        return found
    found += await _ill_health(site)
    found += await _rest(site)
    site.memory.look()
    found += site.memory.complaints()
    found += await honest.work_of_every_role(site)
    found += await honest.read_everything(site)
    found += await stored.contradictions(site.installation.database_url)
    return found + await site.complaints()


async def _ill_health(site: FuzzSite) -> list[str]:
    found = []
    for role, services in _HEALTH_SERVICES.items():
        async with grpc.aio.insecure_channel(site.address(role)) as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
            for service in services:
                request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
                try:
                    answer = await check(request, timeout=10.0)
                except grpc.aio.AioRpcError as exc:
                    found.append(f"health of {role} for {service!r} is {exc.code().name}: {exc.details()}")
                else:
                    found += [] if answer == b"\x08\x01" else [f"{role} does not serve {service!r}"]
    return found


async def _rest(site: FuzzSite) -> list[str]:
    """What has not come to rest in a long time; the leases of those who left are over by then."""
    deadline = time.monotonic() + _REST_WITHIN_S
    while True:
        found = [*await site.unrest(), *await stored.unrest(site.installation.database_url)]
        if not found or time.monotonic() > deadline:
            return [f"after {_REST_WITHIN_S:g} s of rest: {sentence}" for sentence in found]
        await asyncio.sleep(_LOOK_AGAIN_S)
