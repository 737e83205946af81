"""All ledgers together, sorted by what the rules ask for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from faults.events import (
    Assigned,
    Event,
    FaultBegan,
    FaultEnded,
    FaultKind,
    HandlerBegan,
    JobSeen,
    RedriveAnswered,
    RedriveAsked,
    SubmitAcked,
    Submitted,
)
from faults.leases import Hold, all_holds
from faults.ledger import Ledger

# What leaves open whether the redrive was done.
_UNCLEAR = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL", "CANCELLED", "ABORTED"})
FOREVER_NS = 2**63


class _Timed(Protocol):
    @property
    def at_ns(self) -> int: ...


E = TypeVar("E", bound=_Timed)


@dataclass(frozen=True, slots=True)
class Told(Generic[E]):
    """An event with the ledger it stands in. `name` is the worker id, or the client's name."""

    file: str
    name: str
    event: E


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive took effect between these times, if it did."""

    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """From the beginning of a fault until it was undone, or for ever."""

    kind: FaultKind
    target: str
    begin_ns: int
    end_ns: int
    fault: str = ""


class History:
    """What all processes wrote down; every list is in the order of time."""

    def __init__(self, ledgers: Iterable[Ledger]) -> None:
        self.ledgers = tuple(ledgers)
        self._by_kind: defaultdict[type, list[Told[Event]]] = defaultdict(list)
        for ledger in self.ledgers:
            for event in ledger.events:
                self._by_kind[type(event)].append(Told(ledger.file, ledger.name, event))
        for told in self._by_kind.values():
            told.sort(key=lambda each: each.event.at_ns)

    def told(self, kind: type[E]) -> Sequence[Told[E]]:
        """The events of one kind from all ledgers."""
        found: list[Told[E]] = self._by_kind[kind]  # type: ignore[assignment]  # sorted by kind above
        return found

    @cached_property
    def holds(self) -> Sequence[Hold]:
        """Who held which execution when."""
        return sorted(all_holds(self.ledgers), key=lambda hold: hold.begin_ns)

    @cached_property
    def requests(self) -> Mapping[str, Told[Submitted]]:
        """The first try of each key."""
        first: dict[str, Told[Submitted]] = {}
        for told in self.told(Submitted):
            first.setdefault(told.event.key, told)
        return first

    @cached_property
    def acks(self) -> Mapping[str, Told[SubmitAcked]]:
        """The first ack of each job."""
        first: dict[str, Told[SubmitAcked]] = {}
        for told in self.told(SubmitAcked):
            first.setdefault(told.event.job_id, told)
        return first

    @cached_property
    def sightings(self) -> Mapping[str, Sequence[Told[JobSeen]]]:
        """What clients saw of each job."""
        by_job: defaultdict[str, list[Told[JobSeen]]] = defaultdict(list)
        for told in self.told(JobSeen):
            by_job[told.event.job_id].append(told)
        return by_job

    @cached_property
    def deliveries(self) -> Sequence[Told[Assigned] | Told[HandlerBegan]]:
        """Every execution that a worker or handler saw, as often as it saw it."""
        seen: list[Told[Assigned] | Told[HandlerBegan]] = [*self.told(Assigned), *self.told(HandlerBegan)]
        return sorted(seen, key=lambda told: told.event.at_ns)

    def deliveries_of(self, execution_id: str) -> Sequence[Told[Assigned] | Told[HandlerBegan]]:
        """Who saw one execution."""
        return [told for told in self.deliveries if told.event.execution_id == execution_id]

    @cached_property
    def redrives(self) -> Mapping[str, Sequence[Redrive]]:
        """The redrives of each job that were done or may have been."""
        answers = {
            (told.file, told.event.job_id, told.event.asked_ns): told.event for told in self.told(RedriveAnswered)
        }
        by_job: defaultdict[str, list[Redrive]] = defaultdict(list)
        for told in self.told(RedriveAsked):
            asked = told.event
            answer = answers.get((told.file, asked.job_id, asked.at_ns))
            if answer is None or answer.code in _UNCLEAR:
                by_job[asked.job_id].append(Redrive(asked.at_ns, FOREVER_NS))
            elif answer.code == "OK":
                by_job[asked.job_id].append(Redrive(asked.at_ns, answer.at_ns))
        return by_job

    @cached_property
    def faults(self) -> Sequence[FaultWindow]:
        """When something was broken on purpose. Several faults of one target end one after the other, first come."""
        windows = []
        ends = {key: list(ends) for key, ends in self._fault_ends().items()}
        for told in self.told(FaultBegan):
            began = told.event
            of_target = ends.get((began.kind, began.target), [])
            end_ns = of_target.pop(0) if of_target else FOREVER_NS
            windows.append(FaultWindow(began.kind, began.target, began.at_ns, end_ns, began.fault))
        return windows

    def _fault_ends(self) -> Mapping[tuple[FaultKind, str], Sequence[int]]:
        ends: defaultdict[tuple[FaultKind, str], list[int]] = defaultdict(list)
        for told in self.told(FaultEnded):
            ends[told.event.kind, told.event.target].append(told.event.at_ns)
        return ends

    def attempts_seen(self) -> Counter[str]:
        """The highest attempt number that anybody was told, by job."""
        highest: Counter[str] = Counter()
        for told in self.deliveries:
            highest[told.event.job_id] = max(highest[told.event.job_id], told.event.attempt)
        for job in self.told(JobSeen):
            highest[job.event.job_id] = max(highest[job.event.job_id], job.event.attempts)
        return highest
