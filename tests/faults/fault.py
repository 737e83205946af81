"""What a fault is: a name, a sentence, and a coroutine that makes it, waits, and undoes it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from faults.site import FaultSite

DOWN_S = 2.0
"""How long something stays away; the other replica works meanwhile."""
PAST_LEASE_S = 4.0
"""How long something stands still: twice the lease, and twice the leader lock."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is what no two faults can be made on at once. `make` returns when it is over: what was hit is ready."""

    name: str
    says: str
    target: str
    make: Callable[[FaultSite, str], Awaitable[None]]
    is_in_pairs: bool = False

    async def on(self, site: FaultSite) -> None:
        """Makes the fault, and notes its begin and end."""
        await self.make(site, self.name)


def by_name(faults: Iterable[Fault]) -> dict[str, Fault]:
    """The faults by name, which is unique."""
    found: dict[str, Fault] = {}
    for fault in faults:
        assert fault.name not in found, fault.name
        found[fault.name] = fault
    return found
