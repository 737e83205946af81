"""Faults of one process's host clock, by libfaketime: it lags, or jumps. Durations stay true (CLOCK_MONOTONIC)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from dispatchd.entrypoints.settings import Role
from faults.fault import Fault
from faults.site import KIND_OF, STOP_ROLE_S, FaultSite, RoleUnderFaults, ready

LAG_S = -300
JUMPS_S = (3_600, -3_600, 0)
WRONG_S = 5.0
# libfaketime looks at its file once a second.
JUMP_PAUSE_S = 2.0
MOVE_S = 1.5
_TARGETS = {
    "control_plane": Role.CONTROL_PLANE,
    "scheduler_leader": Role.SCHEDULER,
    "gateway": Role.WORKER_GATEWAY,
}


def clock_library() -> Path | None:
    """Where libfaketime is, or None if it is not installed here."""
    spec = find_spec("libfaketime")
    if spec is None or not spec.submodule_search_locations:
        return None
    library = Path(spec.submodule_search_locations[0]) / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return library if library.exists() else None


def clock_faults() -> Iterator[Fault]:
    """Both for one process of each role."""
    for target, role in _TARGETS.items():
        who = target.replace("_", " ")
        says = f"The {who} starts again with a clock that is {-LAG_S} s slow, and after some seconds with the true one."
        yield Fault(f"lag_clock_of_{target}", says, target, partial(_lag, role))
        says = f"The clock of the {who} jumps an hour ahead and an hour back."
        is_in_pairs = role is Role.WORKER_GATEWAY
        yield Fault(f"jump_clock_of_{target}", says, target, partial(_jump, role), is_in_pairs)


async def _lag(role: Role, site: FaultSite, fault: str) -> None:
    async with _wrong_clock(role, LAG_S, site, fault):
        await asyncio.sleep(WRONG_S)


async def _jump(role: Role, site: FaultSite, fault: str) -> None:
    async with _wrong_clock(role, 0, site, fault) as clock:
        for offset_s in JUMPS_S:
            _set(clock, offset_s)
            await asyncio.sleep(JUMP_PAUSE_S)


@asynccontextmanager
async def _wrong_clock(role: Role, offset_s: int, site: FaultSite, fault: str) -> AsyncIterator[Path]:
    async with site.alone_with(*await site.busiest(role)) as name:
        with site.broken(KIND_OF[role], name, fault):
            process = site.roles[name]
            clock = site.folder / f"{name}.clock"
            _set(clock, offset_s)
            await _start_again(process, clock)
            await _send_all_to(name, role, site)
            try:
                yield clock
            finally:
                await _start_again(process, None)


async def _send_all_to(name: str, role: Role, site: FaultSite) -> None:
    """Refuses connections to the other process until all that it had are at this one."""
    if role is Role.SCHEDULER:
        return
    others = [site.grpc_proxies[other.name] for other in site.of_role(role) if other.name != name]
    for proxy in others:
        proxy.refuse()
    await asyncio.sleep(MOVE_S)
    for proxy in others:
        proxy.accept_again()


async def _start_again(process: RoleUnderFaults, clock: Path | None) -> None:
    await process.stop(STOP_ROLE_S)
    process.changed_environ = {}
    if clock is not None:
        process.changed_environ = {
            "LD_PRELOAD": str(clock_library()),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    await ready(process)


def _set(clock: Path, offset_s: int) -> None:
    new = clock.with_suffix(".new")
    new.write_text(f"{offset_s:+d}s\n")
    new.rename(clock)
