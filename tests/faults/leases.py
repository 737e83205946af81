"""From a worker's ledger to the spans of time in which it could be sure that an execution was its own.

The lease belongs to the worker's session and covers everything the session holds. An ack of a heartbeat or registration
says how much longer the *committed* lease lasts, counted from when the ack was written. The worker counts it from when
it *sent* the heartbeat, so it ends a little early, never late:

    sent ────────► written ◄──────── remaining ────────► the lease ends
    └──────────────── remaining ────────────────► what the worker may believe, from when it has read the ack

What a worker may believe about a fresh assignment: the end that its newest ack gave it, and nothing else. The gateway
acks the registration before the first assignment, so there always is one. `lease_expires_at` in the assignment is the
server's wall clock, of which the worker knows nothing; it is kept in the ledger for people. The SDK does the same: one
`Lease` a worker, extended by acks only. An assignment that is read after that end (the worker was stopped, and it lay
in the socket) gives nothing until the next ack does.

    Assigned ──▶ held ──▶ ResultSent, GaveBack                    as soon as it is about to be said
                   │ ├──▶ LeaseAcked that lists it as lost        the server said so
                   │ ├──▶ RegistrationSent that omits it          the worker has let go of it
                   │ └──▶ another process registers this worker id: it omits what this one held
                   └────▶ the lease's end ──LeaseAcked with a later end──▶ held again

The death of a worker ends nothing: its lease runs on, and nobody may be given its executions before that.
A job's own timeout ends an attempt at the server before the worker can know, so the suite's jobs have none.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from faults.events import Assigned, GaveBack, LeaseAcked, RegistrationSent, ResultSent
from faults.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Hold:
    """From `begin_ns` until `end_ns` this ledger's process held a committed, unexpired lease on this execution."""

    job_id: str
    execution_id: str
    worker_id: str
    file: str
    begin_ns: int
    end_ns: int
    ended_by: str


class _Hands:
    """What one worker holds while its ledger is read."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._until_ns = 0
        self._held: dict[str, tuple[str, int]] = {}
        """Job id and begin by execution id."""
        self.holds: list[Hold] = []

    def take(self, assigned: Assigned) -> None:
        self._held.setdefault(assigned.execution_id, (assigned.job_id, assigned.at_ns))

    def let_go(self, execution_id: str, at_ns: int, ended_by: str) -> None:
        if execution_id in self._held:
            self._close(execution_id, at_ns, ended_by)
            del self._held[execution_id]

    def keep_only(self, registration: RegistrationSent) -> None:
        for execution_id in self._held.keys() - registration.held:
            self.let_go(execution_id, registration.at_ns, "a registration that omits it")

    def renew(self, ack: LeaseAcked) -> None:
        for execution_id in ack.lost:
            self.let_go(execution_id, ack.at_ns, "the ack that says it is lost")
        if ack.remaining_ns is None or ack.sent_ns + ack.remaining_ns <= self._until_ns:
            return
        if self._until_ns < ack.at_ns:
            for execution_id, (job_id, _) in list(self._held.items()):
                self._close(execution_id, ack.at_ns, "")
                self._held[execution_id] = (job_id, ack.at_ns)
        self._until_ns = ack.sent_ns + ack.remaining_ns

    def let_all_run_out(self) -> None:
        for execution_id in list(self._held):
            self.let_go(execution_id, self._until_ns, "the end of its lease")

    def _close(self, execution_id: str, at_ns: int, ended_by: str) -> None:
        job_id, begin_ns = self._held[execution_id]
        if at_ns >= self._until_ns:
            at_ns, ended_by = self._until_ns, "the end of its lease"
        if begin_ns < at_ns:
            ledger = self._ledger
            self.holds.append(Hold(job_id, execution_id, ledger.name, ledger.file, begin_ns, at_ns, ended_by))


def holds_of(ledger: Ledger) -> Sequence[Hold]:
    """The spans of one ledger, as far as that ledger alone can tell."""
    hands = _Hands(ledger)
    for event in ledger.events:
        match event:
            case Assigned():
                hands.take(event)
            case LeaseAcked():
                hands.renew(event)
            case RegistrationSent():
                hands.keep_only(event)
            case ResultSent():
                hands.let_go(event.execution_id, event.at_ns, "its result")
            case GaveBack():
                hands.let_go(event.execution_id, event.at_ns, "its give-back")
            case _:
                pass
    hands.let_all_run_out()
    return hands.holds


def all_holds(ledgers: Iterable[Ledger]) -> Sequence[Hold]:
    """The spans of all ledgers; a worker's end where another process registers its worker id."""
    ledgers = list(ledgers)
    registrations: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for ledger in ledgers:
        registrations[ledger.name] += [(ledger.file, event.at_ns) for event in ledger.of(RegistrationSent)]
    return [cut for ledger in ledgers for hold in holds_of(ledger) for cut in _cut(hold, registrations[ledger.name])]


def _cut(hold: Hold, registrations: Sequence[tuple[str, int]]) -> Iterator[Hold]:
    """Whoever is displaced is not told at once, perhaps not before it reads its next assignment."""
    own_ns = max((at_ns for file, at_ns in registrations if file == hold.file and at_ns <= hold.begin_ns), default=0)
    rival_ns = min((at_ns for file, at_ns in registrations if file != hold.file and at_ns > own_ns), default=None)
    if rival_ns is None or rival_ns >= hold.end_ns:
        yield hold
    elif hold.begin_ns < rival_ns:
        yield replace(hold, end_ns=rival_ns, ended_by="the registration of another process with its worker id")
