"""What passes over a worker's stream, free of its encoding."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from dispatchd.application.ports import ClaimedExecution
from dispatchd.domain.ids import ExecutionId
from dispatchd.domain.settlement import Ending
from dispatchd.domain.worker import Registration, WorkerStatus

# --- from the worker ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life; an empty worker id is the stream's."""

    worker_id: str
    status: WorkerStatus


@dataclass(frozen=True, slots=True)
class Report:
    """How an execution ended, or that it is given back. `execution_text` is the id as sent, for the ack."""

    execution_text: str
    execution_id: ExecutionId | None
    ending: Ending
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Reports:
    """One or several at once."""

    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """Executions have begun."""

    execution_ids: tuple[ExecutionId, ...]


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A line of an execution's log."""

    execution_text: str
    message: str
    emitted_at: datetime | None


Inbound = Registration | Heartbeat | Reports | Started | LogChunk

# --- to the worker ------------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ack:
    """An answer. Lease and losses stand on the acks of heartbeats and registrations."""

    execution_text: str = ""
    message: str = ""
    outcome: Outcome | None = None
    lease_remaining: timedelta | None = None
    lost: tuple[ExecutionId, ...] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Work, with what was left of the committed lease at `assigned_at` (`time.monotonic()`)."""

    execution: ClaimedExecution
    lease_remaining: timedelta
    assigned_at: float

    def with_payload(self, payload: bytes | None) -> "Assignment":
        """The same with a payload that was read, or without one that is to be read later."""
        return replace(self, execution=replace(self.execution, payload=payload))


@dataclass(frozen=True, slots=True)
class Drain:
    """The gateway goes: reconnect elsewhere."""

    reason: str


@dataclass(frozen=True, slots=True)
class CancelSignal:
    """Executions that are no longer wanted."""

    execution_ids: tuple[ExecutionId, ...]
    reason: str


Outbound = Ack | Assignment | Drain | CancelSignal
