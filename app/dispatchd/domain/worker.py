"""What a worker says of itself, checked; and the texts it sends, cut to what is stored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dispatchd.domain import limits
from dispatchd.domain.errors import InvalidRequest
from dispatchd.domain.ids import ExecutionId
from dispatchd.domain.job import capability_of
from dispatchd.domain.submission import check_labels, check_name, check_text


class WorkerStatus(StrEnum):
    """As of the last heartbeat; OFFLINE without an open stream."""

    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    OFFLINE = "offline"

    @property
    def takes_work(self) -> bool:
        return self is WorkerStatus.READY or self is WorkerStatus.BUSY


@dataclass(frozen=True, slots=True)
class Registration:
    """A checked registration. Capabilities are first parts, unique, in the order given."""

    worker_id: str
    capabilities: tuple[str, ...]
    slots: int
    labels: Mapping[str, str] = field(default_factory=dict)
    batching: bool = False
    sends_started: bool = False
    resumes: bool = False
    process_id: str = ""
    held: tuple[ExecutionId, ...] = ()


def check_worker_id(worker_id: str) -> None:
    """Raises InvalidRequest unless it is 1-200 bytes without NUL."""
    if not worker_id:
        raise InvalidRequest("worker_id", "must not be empty")
    check_text("worker_id", worker_id, limits.WORKER_ID_BYTES)


def check_registration(registration: Registration) -> None:
    """Raises InvalidRequest for the first rule of the contract that is broken."""
    check_worker_id(registration.worker_id)
    if not registration.capabilities:
        raise InvalidRequest("capabilities", "must name at least one capability")
    if len(registration.capabilities) > limits.CAPABILITIES:
        raise InvalidRequest(
            "capabilities", f"has {len(registration.capabilities)} entries, the most is {limits.CAPABILITIES}"
        )
    for capability in registration.capabilities:
        check_name("capabilities", capability)
    check_labels("labels", registration.labels)
    check_text("process_id", registration.process_id, limits.PROCESS_ID_BYTES)
    if registration.resumes and not registration.process_id:
        raise InvalidRequest("process_id", "must be set by a worker that declares WORKER_FEATURE_RESUME")
    if len(registration.held) > limits.HELD_EXECUTIONS:
        raise InvalidRequest("held_execution_ids", f"has more than {limits.HELD_EXECUTIONS} entries")


def first_parts(capabilities: Iterable[str]) -> tuple[str, ...]:
    """Capabilities without what follows their first dot, each once."""
    return tuple(dict.fromkeys(capability_of(capability) for capability in capabilities))


def slots_of(max_concurrency: int) -> int:
    """0 or less means 1; more than the bound is taken as the bound."""
    return min(max(max_concurrency, 1), limits.SLOTS)


def stored_text(text: str, most_bytes: int = limits.ERROR_BYTES) -> str:
    """A worker's text as it is stored: NUL replaced, cut at a character within `most_bytes`."""
    clean = text.replace("\0", "�")
    encoded = clean.encode()
    return clean if len(encoded) <= most_bytes else encoded[:most_bytes].decode(errors="ignore")


def stored_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """A worker's result metadata as it is stored: NUL replaced, cut to 64 entries and 16 KiB."""
    kept: dict[str, str] = {}
    room = limits.METADATA_BYTES
    for key in sorted(labels)[: limits.METADATA_ENTRIES]:
        clean_key, clean_value = stored_text(key), stored_text(labels[key])
        room -= len(clean_key.encode()) + len(clean_value.encode())
        if room < 0:
            break
        kept[clean_key] = clean_value
    return kept
