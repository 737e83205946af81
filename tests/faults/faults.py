"""Every single fault there is, by name.

What can't be had, and why:

- The host clock of Postgres or Redis: Postgres has the one clock that decides, and moving it moves the checker's too.
- The host clock of a worker: the SDK reads none but the monotonic one, and so do the recorders.
- A full disk without the right to mount one (see `small_disk`), and one that is full for Redis, which has no disk here.
- A lost commit (power, a disk that lies about fsync): nothing short of a machine's end takes away what fsync kept.
- Lost, doubled or reordered packets and asymmetric partitions: TCP hides the former, the latter need root's network
  namespaces; a proxy that goes deaf shows a program the same.
"""

import asyncio
from collections.abc import Iterator, Mapping

from faults.clock_faults import clock_faults
from faults.connection_faults import connection_faults
from faults.events import FaultKind
from faults.fault import Fault, by_name
from faults.process_faults import process_faults
from faults.site import FaultSite

FULL_S = 4.0
DISK = "fill_disk_of_postgres"


async def _fill_disk(site: FaultSite, fault: str) -> None:
    async with site.alone_with("postgres"):
        with site.broken(FaultKind.POSTGRES, "the disk of postgres", fault):
            await asyncio.to_thread(site.disk.fill)
            try:
                await asyncio.sleep(FULL_S)
            finally:
                site.disk.free()
            await site.postgres_answers()


def _disk_faults() -> Iterator[Fault]:
    says = f"The disk of Postgres is full for {FULL_S:g} s."
    yield Fault(DISK, says, "postgres", _fill_disk, is_in_pairs=True)


FAULTS: Mapping[str, Fault] = by_name([*process_faults(), *connection_faults(), *clock_faults(), *_disk_faults()])
