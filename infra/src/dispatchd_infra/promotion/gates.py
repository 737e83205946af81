"""What must be true before a step of a switch is written: most of it stands in status files, some only a person knows.

Why the demotion loses nothing: positions in the write-ahead log only grow. The old primary's file says that it takes no
new work and that what ran has ended, at some position. Once the replica has replayed that position, it has all of it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dispatchd_infra.promotion.region_status import Mode, RegionStatus, Serves, StatusRefused
from dispatchd_infra.promotion.steps import Step
from dispatchd_infra.region_state import Regions, peer_of
from dispatchd_infra.settings import Stack

Statuses = Mapping[Stack, RegionStatus]


class GateRefused(Exception):
    """A gate is shut; the text says which, and what to do."""


class Confirmed(StrEnum):
    """The gates that no file can answer, so that a person confirms them by name."""

    BACKUP = "backup"
    VOLUMES_DELETED = "volumes-deleted"
    SMOKE = "smoke"


@dataclass(frozen=True, slots=True)
class _Gate:
    """A gate that status files answer: None if it is open, else what to do."""

    name: str
    shut: Callable[[Regions, Stack, Statuses], str | None]


def _epochs_agree(regions: Regions, stack: Stack, statuses: Statuses) -> str | None:
    for each in (stack, peer_of(stack)):
        status = _status(statuses, each)
        if (status.primary_region, status.epoch) != (regions.primary, regions.epoch):
            return (
                f"the row of {each} says primary {status.primary_region}, epoch {status.epoch}; committed are"
                f" {regions.primary}, {regions.epoch}. Wait until both regions have synced and replayed"
            )
    return None


def _draining(_: Regions, stack: Stack, statuses: Statuses) -> str | None:
    status = _status(statuses, stack)
    if status.database is not Serves.PRIMARY:
        return f"the database of {stack} is a {status.database} already; this step is for the primary"
    if status.mode is not Mode.DRAINING:
        return f"{stack} still takes new work: run `dispatchd region drain --expect-epoch {status.epoch}` there"
    return None


def _work_ended(_: Regions, stack: Stack, statuses: Statuses) -> str | None:
    status = _status(statuses, stack)
    if status.work_has_ended:
        return None
    until = "" if status.latest_lease_end is None else f", the last one until {status.latest_lease_end.isoformat()}"
    return f"workers of {stack} still hold {status.in_flight} executions{until}: wait, and read the status again"


def _caught_up(_: Regions, stack: Stack, statuses: Statuses) -> str | None:
    status, replica = _status(statuses, stack), _status(statuses, peer_of(stack))
    if replica.database is not Serves.REPLICA:
        return f"the database of {replica.region} is a {replica.database}, so it does not follow {stack}"
    if replica.read_at < status.read_at:
        return f"{replica.region} was read before {stack}: read its status again"
    if replica.wal_position < status.wal_position:
        return (
            f"{replica.region} still lacks {status.wal_position - replica.wal_position} bytes of the log of {stack}:"
            " wait for the next archived file, at most one archive timeout, and read its status again"
        )
    return None


def _promoted(regions: Regions, stack: Stack, statuses: Statuses) -> str | None:
    status = _status(statuses, stack)
    if status.database is not Serves.PRIMARY:
        return (
            f"the database of {stack} is still a {status.database}: merge the commit of the promotion, wait until"
            " Argo CD has synced and the database is promoted, and read the status again"
        )
    if status.epoch != regions.epoch:
        return (
            f"the row of {stack} has epoch {status.epoch} and not {regions.epoch}, because the last switch never"
            f" reached this database: run `dispatchd region set {stack} --expect-epoch {status.epoch}` there until the"
            f" row has epoch {regions.epoch}"
        )
    return None


def _serving(regions: Regions, stack: Stack, statuses: Statuses) -> str | None:
    status = _status(statuses, stack)
    if status.database is not Serves.PRIMARY:
        return f"the database of {stack} is a {status.database}"
    if (status.primary_region, status.epoch) != (stack, regions.epoch):
        return (
            f"the row of {stack} says primary {status.primary_region}, epoch {status.epoch}, not {stack},"
            f" {regions.epoch}: merge the commit of the switch, and wait until Argo CD of {stack} has synced"
        )
    if status.mode is not Mode.ACTIVE:
        return f"{stack} is draining: run `dispatchd region drain --undo --expect-epoch {status.epoch}` there"
    return None


_GATES: Mapping[Step, Sequence[_Gate | Confirmed]] = {
    Step.BEGIN: (),
    Step.BOOTSTRAP_PASSIVE: (Confirmed.BACKUP,),
    Step.DEMOTE: (
        _Gate("epochs-agree", _epochs_agree),
        _Gate("draining", _draining),
        _Gate("work-ended", _work_ended),
        _Gate("caught-up", _caught_up),
    ),
    Step.PROMOTE: (),
    Step.SWITCH: (_Gate("promoted", _promoted),),
    Step.FINISH: (_Gate("serving", _serving), Confirmed.SMOKE),
    Step.REBUILD: (Confirmed.BACKUP, Confirmed.VOLUMES_DELETED),
    Step.REFRESH: (),
}


def check(step: Step, regions: Regions, stack: Stack, statuses: Statuses, confirmed: Collection[str]) -> list[str]:
    """Returns the names of the gates that are open. Raises GateRefused or StatusRefused at the first that is shut."""
    gates = _GATES[step]
    askable = [gate for gate in gates if isinstance(gate, Confirmed)]
    for name in confirmed:
        if name not in askable:
            raise GateRefused(_why_not_confirmed(step, gates, name))
    for gate in gates:
        if isinstance(gate, Confirmed):
            if gate not in confirmed:
                raise GateRefused(f"gate {gate}: {_question(gate, stack)} If so, add --gates-confirmed {gate}.")
        elif (why := gate.shut(regions, stack, statuses)) is not None:
            raise GateRefused(f"gate {gate.name}: {why}.")
    return [gate.value if isinstance(gate, Confirmed) else gate.name for gate in gates]


def _question(gate: Confirmed, stack: Stack) -> str:
    peer = peer_of(stack)
    return {
        Confirmed.BACKUP: (
            f"{stack} is copied from the archive of {peer}. Has a backup of {peer} completed since it became the"
            f" primary? `kubectl --context {peer} get backups.postgresql.cnpg.io` in the namespace of dispatchd shows"
            " it."
        ),
        Confirmed.VOLUMES_DELETED: (
            f"While Argo CD of {stack} is stopped, did you delete the Cluster of {stack} and its volume claims?"
        ),
        Confirmed.SMOKE: f"Did {stack} take a job and finish it? See docs/delivery.md.",
    }[gate]


def _why_not_confirmed(step: Step, gates: Sequence[_Gate | Confirmed], name: str) -> str:
    if any(isinstance(gate, _Gate) and gate.name == name for gate in gates):
        return f"--gates-confirmed {name}: the status file answers this, so that nobody needs to confirm it"
    askable = [gate.value for gate in gates if isinstance(gate, Confirmed)]
    return f"--gates-confirmed {name}: step {step} has no such gate to confirm, only {', '.join(askable) or 'none'}"


def _status(statuses: Statuses, stack: Stack) -> RegionStatus:
    if stack not in statuses:
        raise StatusRefused(f"the status of {stack} is needed: give its file by --status")
    return statuses[stack]
