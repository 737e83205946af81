"""What a process of the fault suite writes down: one frozen event a line, each about something it did or was told.

All times are `time.monotonic_ns()`, which is CLOCK_MONOTONIC: one clock for all processes of one machine, which goes on
while a process is stopped. What a process *does* is noted before it does it, what it *is told* after it has read it. So
a process that is killed in between never claims more than it could know.

    clients   Submitted ─► SubmitAcked | SubmitFailed          JobSeen          RedriveAsked ─► RedriveAnswered
    workers   RegistrationSent ─► LeaseAcked      Assigned ─► ResultSent | GaveBack ─► ResultAcked | GiveBackAcked
    handlers  HandlerBegan ─► HandlerEnded                     faults  FaultBegan ─► FaultEnded  LeaderSeen
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from dispatchd.sdk.job import JobStatus


class LedgerRole(StrEnum):
    """Who writes a ledger."""

    CLIENT = "client"
    RAW_WORKER = "raw_worker"
    SDK_WORKER = "sdk_worker"
    NEMESIS = "nemesis"


class Outcome(StrEnum):
    """What an ack says of a result or give-back."""

    UNSPECIFIED = "unspecified"
    ACCEPTED = "accepted"
    STALE = "stale"
    UNKNOWN = "unknown"


class HandlerEnd(StrEnum):
    """How a handler of the SDK's worker ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


class FaultKind(StrEnum):
    """What a fault hits; a cut or deaf connection counts for the role at whose end it is."""

    POSTGRES = "postgres"
    REDIS = "redis"
    CONTROL_PLANE = "control_plane"
    SCHEDULER = "scheduler"
    GATEWAY = "gateway"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Opened:
    """The first line of every ledger. `name` is the worker id of a worker; `process_id` is random."""

    at_ns: int
    role: LedgerRole
    name: str
    process_id: str
    event: Literal["opened"] = "opened"


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """A try at a submit is about to be sent; tries with one key are equal in everything else."""

    at_ns: int
    key: str
    job_type: str
    priority: int
    max_attempts: int
    event: Literal["submitted"] = "submitted"


@dataclass(frozen=True, slots=True)
class SubmitAcked:
    """The server said that the job is stored."""

    at_ns: int
    key: str
    job_id: str
    event: Literal["submit_acked"] = "submit_acked"


@dataclass(frozen=True, slots=True)
class SubmitFailed:
    """A try ended with another gRPC status than OK; whether the job is stored may be open."""

    at_ns: int
    key: str
    code: str
    event: Literal["submit_failed"] = "submit_failed"


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A call that was sent at `asked_ns` showed the job like this; `at_ns` is when the answer was read."""

    at_ns: int
    asked_ns: int
    job_id: str
    status: JobStatus
    attempts: int
    call: str
    event: Literal["job_seen"] = "job_seen"


@dataclass(frozen=True, slots=True)
class RedriveAsked:
    """A redrive is about to be sent."""

    at_ns: int
    job_id: str
    event: Literal["redrive_asked"] = "redrive_asked"


@dataclass(frozen=True, slots=True)
class RedriveAnswered:
    """How the redrive that was sent at `asked_ns` was answered: a gRPC status."""

    at_ns: int
    asked_ns: int
    job_id: str
    code: str
    event: Literal["redrive_answered"] = "redrive_answered"


@dataclass(frozen=True, slots=True)
class Closed:
    """A client has said all it had to say. `skipped`: arrivals that were not submitted because too many were open."""

    at_ns: int
    skipped: int
    event: Literal["closed"] = "closed"


# --- workers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegistrationSent:
    """A registration is about to be sent on a new stream, with everything that the worker holds."""

    at_ns: int
    stream: int
    held: tuple[str, ...]
    event: Literal["registration_sent"] = "registration_sent"


@dataclass(frozen=True, slots=True)
class LeaseAcked:
    """The ack of the registration or heartbeat that was sent at `sent_ns`; `remaining_ns` is None if it says none."""

    at_ns: int
    stream: int
    sent_ns: int
    remaining_ns: int | None
    lost: tuple[str, ...]
    event: Literal["lease_acked"] = "lease_acked"


@dataclass(frozen=True, slots=True)
class Assigned:
    """An assignment was read. `lease_expires_us` is the server's wall clock, in microseconds since 1970."""

    at_ns: int
    stream: int
    execution_id: str
    job_id: str
    attempt: int
    lease_expires_us: int
    event: Literal["assigned"] = "assigned"


@dataclass(frozen=True, slots=True)
class ResultSent:
    """A result is about to be sent, for the first time or again."""

    at_ns: int
    stream: int
    execution_id: str
    success: bool
    event: Literal["result_sent"] = "result_sent"


@dataclass(frozen=True, slots=True)
class ResultAcked:
    """A result with this success flag was acked."""

    at_ns: int
    stream: int
    execution_id: str
    success: bool
    outcome: Outcome
    event: Literal["result_acked"] = "result_acked"


@dataclass(frozen=True, slots=True)
class GaveBack:
    """A give-back is about to be sent."""

    at_ns: int
    stream: int
    execution_id: str
    event: Literal["gave_back"] = "gave_back"


@dataclass(frozen=True, slots=True)
class GiveBackAcked:
    """A give-back was acked."""

    at_ns: int
    stream: int
    execution_id: str
    outcome: Outcome
    event: Literal["give_back_acked"] = "give_back_acked"


@dataclass(frozen=True, slots=True)
class CancelTold:
    """A cancel signal was read."""

    at_ns: int
    stream: int
    execution_ids: tuple[str, ...]
    event: Literal["cancel_told"] = "cancel_told"


@dataclass(frozen=True, slots=True)
class DrainTold:
    """The gateway asked the worker to reconnect or to leave."""

    at_ns: int
    stream: int
    event: Literal["drain_told"] = "drain_told"


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over, with this gRPC status."""

    at_ns: int
    stream: int
    code: str
    event: Literal["stream_ended"] = "stream_ended"


@dataclass(frozen=True, slots=True)
class HandlerBegan:
    """A handler of the SDK's worker was called."""

    at_ns: int
    execution_id: str
    job_id: str
    attempt: int
    event: Literal["handler_began"] = "handler_began"


@dataclass(frozen=True, slots=True)
class HandlerEnded:
    """That handler is about to end like this; what the server makes of it is not known here."""

    at_ns: int
    execution_id: str
    end: HandlerEnd
    event: Literal["handler_ended"] = "handler_ended"


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultBegan:
    """A fault is about to be made. `target` names the process or connection, `fault` is a name of the registry."""

    at_ns: int
    kind: FaultKind
    target: str
    fault: str = ""
    event: Literal["fault_began"] = "fault_began"


@dataclass(frozen=True, slots=True)
class FaultEnded:
    """A fault was undone: its target runs and answers again."""

    at_ns: int
    kind: FaultKind
    target: str
    event: Literal["fault_ended"] = "fault_ended"


@dataclass(frozen=True, slots=True)
class LeaderSeen:
    """The leader lock has another owner than before; `owner` is empty if nobody has it."""

    at_ns: int
    owner: str
    event: Literal["leader_seen"] = "leader_seen"


Event = Annotated[
    Opened
    | Submitted
    | SubmitAcked
    | SubmitFailed
    | JobSeen
    | RedriveAsked
    | RedriveAnswered
    | Closed
    | RegistrationSent
    | LeaseAcked
    | Assigned
    | ResultSent
    | ResultAcked
    | GaveBack
    | GiveBackAcked
    | CancelTold
    | DrainTold
    | StreamEnded
    | HandlerBegan
    | HandlerEnded
    | FaultBegan
    | FaultEnded
    | LeaderSeen,
    Field(discriminator="event"),
]
