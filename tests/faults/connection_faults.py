"""Faults of connections: cut, refused, deaf, slow; an answer that never comes; and a Redis that has forgotten all."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack
from functools import partial

import asyncpg

from dispatchd.entrypoints.settings import Role
from faults.events import FaultKind
from faults.fault import PAST_LEASE_S, Fault
from faults.site import KIND_OF, FaultSite
from tcp_proxy import TcpProxy

STOPPED_S = 2.5
SLOW_S = 4.0
DELAY_S = 0.2
LOSSES = 10
LOSS_PAUSE_S = 0.3
# The end of an answer of Postgres to a statement outside a transaction, or to its commit: ReadyForQuery, idle.
_READY = b"Z\x00\x00\x00\x05I"
_END_BACKENDS = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'dispatchd %'
"""

Break = Callable[[Collection[TcpProxy]], Awaitable[None]]


async def _stop(proxies: Collection[TcpProxy]) -> None:
    for proxy in proxies:
        proxy.refuse()
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        for proxy in proxies:
            proxy.accept_again()


async def _deafen(proxies: Collection[TcpProxy]) -> None:
    for proxy in proxies:
        proxy.go_deaf()
    try:
        await asyncio.sleep(PAST_LEASE_S)
    finally:
        for proxy in proxies:
            proxy.hear_again()


async def _slow(proxies: Collection[TcpProxy]) -> None:
    for proxy in proxies:
        proxy.delay(DELAY_S)
    try:
        await asyncio.sleep(SLOW_S)
    finally:
        for proxy in proxies:
            proxy.delay(0.0)


async def _cut(proxies: Collection[TcpProxy]) -> None:
    for _ in range(LOSSES):
        for proxy in proxies:
            proxy.cut()
        await asyncio.sleep(LOSS_PAUSE_S)


async def _lose_answers(proxies: Collection[TcpProxy]) -> None:
    for _ in range(LOSSES):
        for proxy in proxies:
            proxy.cut_once_before(lambda answer: _READY in answer)
        await asyncio.sleep(LOSS_PAUSE_S)


_BREAKS: dict[str, tuple[Break, str]] = {
    "stop": (_stop, "are cut and refused for a while"),
    "deafen": (_deafen, "pass nothing on for twice the lease, and everything afterwards"),
    "slow": (_slow, f"pass everything on {DELAY_S * 1000:g} ms later"),
    "cut": (_cut, f"are cut {LOSSES} times"),
    "lose_answers": (_lose_answers, f"are cut {LOSSES} times in place of an answer, so that a commit may be unclear"),
}
_PROCESS_TARGETS = {
    "control_plane": Role.CONTROL_PLANE,
    "scheduler_leader": Role.SCHEDULER,
    "gateway": Role.WORKER_GATEWAY,
}
_PAIRED = {
    "deafen_postgres_of_control_plane",
    "deafen_postgres_of_scheduler_leader",
    "deafen_postgres_of_gateway",
    "lose_answers_of_control_plane",
    "lose_answers_of_gateway",
    "deafen_redis",
    "cut_streams",
    "deafen_streams",
}


def connection_faults() -> Iterator[Fault]:
    """Those of one process to Postgres and to Redis, of all to Redis, of workers and of clients."""
    for target, role in _PROCESS_TARGETS.items():
        for action in ("stop", "deafen", "slow", "lose_answers"):
            act, says = _BREAKS[action]
            name = f"lose_answers_of_{target}" if action == "lose_answers" else f"{action}_postgres_of_{target}"
            says = f"Connections of the {target.replace('_', ' ')} to Postgres {says}."
            yield _fault(name, says, f"postgres of {target}", partial(_of_process, role, act))
    for target, role in _PROCESS_TARGETS.items():
        act, says = _BREAKS["deafen"]
        says = f"Connections of the {target.replace('_', ' ')} to Redis {says}."
        yield _fault(f"deafen_redis_of_{target}", says, "redis", partial(_redis_of_process, role, act))
    for action in ("stop", "deafen", "slow"):
        act, says = _BREAKS[action]
        yield _fault(f"{action}_redis", f"All connections to Redis {says}.", "redis", partial(_of_redis, act))
    for target, role in (("streams", Role.WORKER_GATEWAY), ("calls", Role.CONTROL_PLANE)):
        for action in ("cut", "deafen", "slow"):
            act, says = _BREAKS[action]
            whose = "workers to gateways" if role is Role.WORKER_GATEWAY else "clients to control-planes"
            yield _fault(f"{action}_{target}", f"Connections of {whose} {says}.", target, partial(_of_grpc, role, act))
    says = f"The backends of all connections are ended {LOSSES} times (pg_terminate_backend)."
    yield Fault("end_backends", says, "postgres", _end_backends, is_in_pairs=True)
    yield Fault("empty_redis", "Redis forgets everything (FLUSHALL).", "redis", _empty_redis, is_in_pairs=True)


def _fault(name: str, says: str, target: str, make: Callable[[FaultSite, str], Awaitable[None]]) -> Fault:
    return Fault(name, says, target, make, name in _PAIRED)


async def _of_process(role: Role, act: Break, site: FaultSite, fault: str) -> None:
    name = (await site.busiest(role))[0]
    with site.broken(KIND_OF[role], f"{name} to postgres", fault):
        await act([site.postgres_proxies[name]])


async def _redis_of_process(role: Role, act: Break, site: FaultSite, fault: str) -> None:
    name = (await site.busiest(role))[0]
    with site.broken(KIND_OF[role], f"{name} to redis", fault):
        await act([site.redis_proxies[name]])


async def _of_redis(act: Break, site: FaultSite, fault: str) -> None:
    with site.broken(FaultKind.REDIS, "all to redis", fault):
        await act(site.redis_proxies.values())


async def _of_grpc(role: Role, act: Break, site: FaultSite, fault: str) -> None:
    proxies = [site.grpc_proxies[each.name] for each in site.of_role(role)]
    with site.broken(KIND_OF[role], "all streams" if role is Role.WORKER_GATEWAY else "all calls", fault):
        await act(proxies)


async def _end_backends(site: FaultSite, fault: str) -> None:
    # It is no disturbance of one role alone: gateways lose what they were about to claim.
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.alone_with("postgres"))
        stack.enter_context(site.broken(FaultKind.POSTGRES, "all backends", fault))
        for _ in range(LOSSES):
            connection = await asyncpg.connect(site.database_url, timeout=10.0)
            try:
                await connection.execute(_END_BACKENDS)
            finally:
                await connection.close()
            await asyncio.sleep(LOSS_PAUSE_S)


async def _empty_redis(site: FaultSite, fault: str) -> None:
    async with site.alone_with("redis"):
        await site.backlog()
        with site.broken(FaultKind.REDIS, "redis", fault):
            async with site.redis() as redis:
                await redis.flushall()
