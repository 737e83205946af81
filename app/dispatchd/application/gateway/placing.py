"""Which free slot a ready execution gets: the emptiest session of the gateway that can do it."""

import heapq
from collections.abc import Sequence

from dispatchd.application.gateway.session import WorkerSession
from dispatchd.application.ports import Demand, Offer, ReadyEntry
from dispatchd.domain import limits

MOST_DEMANDS = 1_000
"""Sets of capabilities that are asked for at once; they take turns."""

FreeSession = tuple[WorkerSession, int]
"""A session and its free slots, looked at once a round: there may be thousands of them."""

SessionsByCapabilities = dict[tuple[str, ...], list[FreeSession]]


class Placing:
    """Spreads entries over sessions: within a gateway the emptiest session that can do it gets it."""

    def __init__(self, by_capabilities: SessionsByCapabilities, turn: int = 0) -> None:
        self._heaps: dict[tuple[str, ...], list[tuple[float, int, int, WorkerSession]]] = {}
        for capabilities, sessions in by_capabilities.items():
            heap = [
                (-free / session.registration.slots, position, free, session)
                for position, (session, free) in enumerate(sessions)
            ]
            heapq.heapify(heap)
            self._heaps[capabilities] = heap
        self._turn = turn

    def demands(self) -> list[Demand]:
        """Free slots by capabilities. Each turn begins with another group: a batch may not reach all of them."""
        groups = list(self._heaps.items())
        start = self._turn % len(groups) if groups else 0
        return [
            Demand(capabilities, min(limits.BATCH_ITEMS, slots))
            for capabilities, heap in (groups[start:] + groups[:start])[:MOST_DEMANDS]
            if (slots := sum(free for _, _, free, _ in heap)) > 0
        ]

    def place_popped(self, demands: Sequence[Demand], popped: Sequence[Sequence[ReadyEntry]]) -> list[Offer]:
        return [
            Offer(entry, session.session_id)
            for demand, entries in zip(demands, popped, strict=True)
            for entry in entries
            if (session := self._take_emptiest([demand.capabilities])) is not None
        ]

    def place_ready(self, entries: Sequence[ReadyEntry]) -> list[Offer]:
        """Places the best entries of several capabilities, best first, as far as there are slots."""
        offers: list[Offer] = []
        for entry in sorted(entries, key=lambda e: (-e.priority, e.due_at, e.execution_id)):
            able = [capabilities for capabilities in self._heaps if entry.capability in capabilities]
            session = self._take_emptiest(able)
            if session is not None:
                offers.append(Offer(entry, session.session_id))
            if len(offers) == limits.BATCH_ITEMS:
                break
        return offers

    def _take_emptiest(self, groups: Sequence[tuple[str, ...]]) -> WorkerSession | None:
        heaps = [self._heaps[group] for group in groups if self._heaps[group]]
        if not heaps:
            return None
        heap = min(heaps, key=lambda candidates: candidates[0][:2])
        _, position, free, session = heap[0]
        if free > 1:
            heapq.heapreplace(heap, (-(free - 1) / session.registration.slots, position, free - 1, session))
        else:
            heapq.heappop(heap)
        return session
