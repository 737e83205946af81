"""Memory and processor time of the processes of an installation."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped]

from dispatchd.entrypoints.installation import Installation
from perf.bench.failure import BenchFailed

DRIVER = "driver"
"""The processes of the steps themselves: drivers, k6, pgbench."""
LOG_READER = "log reader"
"""This process, which takes the roles' log lines and stores them."""

OTHERS = "others"
"""Everything else on the machine; what it takes, the figures lack."""

_SAMPLE_EVERY_S = 0.5
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MiB. RSS counts pages that it shares with others in full, PSS its part of them."""

    rss_mib: float
    pss_mib: float


@dataclass(slots=True)
class Usage:
    """Watches one installation."""

    installation: Installation
    peak_rss_mib: dict[str, float] = field(default_factory=dict)
    """Of each role, the largest of all samples (two a second)."""
    cores: dict[str, dict[str, float]] = field(default_factory=dict)
    """By step and process: processor time per second of the step."""

    def memory(self) -> dict[str, Memory]:
        """Of each role, now."""
        return {name: _memory(process) for name, process in self._roles()}

    @asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Takes samples of the roles' memory while a block runs."""
        sampler = asyncio.create_task(self._sample(), name="sample memory")
        try:
            yield
        finally:
            sampler.cancel()
            await asyncio.wait({sampler})

    @asynccontextmanager
    async def step(self, title: str) -> AsyncIterator[None]:
        """Measures processor time while a block runs."""
        loop = asyncio.get_running_loop()
        before, began = self._processor_s(), loop.time()
        yield
        seconds = loop.time() - began
        after = self._processor_s()
        cores = {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}
        known = sum(used for name, used in cores.items() if name != OTHERS)
        # The kernel counts the whole machine in coarser ticks than processes.
        self.cores[title] = cores | {OTHERS: max(0.0, cores[OTHERS] - known)}

    async def _sample(self) -> None:
        while True:
            for name, process in self._roles():
                rss_mib = process.memory_info().rss / _MIB
                self.peak_rss_mib[name] = max(self.peak_rss_mib.get(name, 0.0), rss_mib)
            await asyncio.sleep(_SAMPLE_EVERY_S)

    def _roles(self) -> Iterator[tuple[str, psutil.Process]]:
        for name, process in self.installation.processes.items():
            if not process.running:
                raise BenchFailed(f"{name} has ended ({process.describe_end()})")
            yield name, psutil.Process(process.pid)

    def _processor_s(self) -> dict[str, float]:
        """By process; the whole machine stands under OTHERS."""
        used = {
            name: _own_s(psutil.Process(process.pid))
            for name, process in self.installation.processes.items()
            if process.running
        }
        for server in (self.installation.postgres, self.installation.valkey):
            if server is not None:
                used[server.title] = _family_s(psutil.Process(server.pid))
        own = os.times()
        used[DRIVER] = own.children_user + own.children_system
        used[LOG_READER] = own.user + own.system
        machine = psutil.cpu_times()
        used[OTHERS] = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        return used


def _memory(process: psutil.Process) -> Memory:
    full = process.memory_full_info()
    return Memory(full.rss / _MIB, full.pss / _MIB)


def _own_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    used: float = times.user + times.system
    return used


def _family_s(process: psutil.Process) -> float:
    """With the children that live and those that have ended."""
    times = process.cpu_times()
    used: float = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            used += _own_s(child)
        except psutil.NoSuchProcess:
            continue
    return used
