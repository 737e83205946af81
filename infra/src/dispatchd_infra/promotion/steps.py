"""The steps by which production moves from one region to the other; A is the primary at first, B the other region.

Planned, without a loss::

    settled ── demote A ──▶ demoted ── promote B --token ──▶ promoted ── switch B ──▶ switched ── finish B ──▶ settled
                               │
                               └── promote A --token: give up, A stays the primary ──▶ switched ── finish A ──▶ settled

Unplanned, when A can't be reached; what B had not read from A's archive is lost::

    settled, switched, demoted or promoted ── promote B --unplanned ──▶ promoted ── switch B ──▶ diverged
    diverged ── rebuild A ──▶ settled

If B is lost before the roles were switched to it, A takes over again under the same epoch::

    promoted ── promote A --unplanned ──▶ diverged ── rebuild B ──▶ settled

If the passive region is lost::

    settled ── rebuild B ──▶ settled

The first passive region::

    begin A ──▶ alone ── bootstrap-passive B ──▶ settled

Each step is one commit. The state is read from the committed files, so that anybody can go on where another stopped,
and a step that is done already changes nothing; only `rebuild` begins another archive each time. `refresh` writes the
files anew after a change of settings.
"""

from dataclasses import replace
from enum import StrEnum

from dispatchd_infra.region_state import Bootstrap, DatabaseRole, Regions, StateRefused, peer_of
from dispatchd_infra.settings import Stack


class Step(StrEnum):
    """What `infra promote-region --step` takes."""

    BEGIN = "begin"
    BOOTSTRAP_PASSIVE = "bootstrap-passive"
    DEMOTE = "demote"
    PROMOTE = "promote"
    SWITCH = "switch"
    FINISH = "finish"
    REBUILD = "rebuild"
    REFRESH = "refresh"


class Phase(StrEnum):
    """Where a switch stands; see the drawing above."""

    ALONE = "alone"
    """The other region has no database yet."""
    SETTLED = "settled"
    DEMOTED = "demoted"
    """No database is a primary."""
    PROMOTED = "promoted"
    """The database of one region is the primary, and the roles are still told that the other region is."""
    SWITCHED = "switched"
    """As settled, but the used token still stands there."""
    DIVERGED = "diverged"
    """The other region has to be rebuilt."""


def phase_of(regions: Regions) -> Phase:
    """Where a switch stands."""
    primary = regions.primary_database
    if primary is None:
        return Phase.DEMOTED
    if primary is not regions.primary:
        return Phase.PROMOTED
    if regions.of(primary).token is not None:
        return Phase.SWITCHED
    others = {
        DatabaseRole.ABSENT: Phase.ALONE,
        DatabaseRole.DIVERGED: Phase.DIVERGED,
        DatabaseRole.REPLICA: Phase.SETTLED,
    }
    return others[regions.of(peer_of(primary)).role]


def bootstrap_passive(regions: Regions, stack: Stack) -> Regions:
    """Gives a region its first database, copied from the primary's archive."""
    if regions.of(stack).role is DatabaseRole.REPLICA:
        return regions
    _demand(regions, Phase.ALONE, Step.BOOTSTRAP_PASSIVE)
    _demand_role(regions, stack, DatabaseRole.ABSENT, "it has a database already")
    return _copied(regions, stack)


def demote(regions: Regions, stack: Stack) -> Regions:
    """Makes the primary database a replica; its promotion token appears in its status."""
    phase = phase_of(regions)
    if phase is Phase.DEMOTED and regions.primary is stack:
        return regions
    if phase is Phase.SWITCHED:
        raise StateRefused(
            f"the token of the last promotion still stands there, and a used token blocks the way back: first take the"
            f" step {Step.FINISH} for {regions.primary}"
        )
    _demand(regions, Phase.SETTLED, Step.DEMOTE)
    _demand_role(regions, stack, DatabaseRole.PRIMARY, "only the primary can be demoted")
    return regions.with_database(stack, role=DatabaseRole.REPLICA)


def promote(regions: Regions, stack: Stack, token: str) -> Regions:
    """Makes a replica the primary, once it has everything up to the position in the token."""
    state = regions.of(stack)
    if state.role is DatabaseRole.PRIMARY and state.token == token:
        return regions
    _demand(regions, Phase.DEMOTED, Step.PROMOTE)
    return regions.with_database(stack, role=DatabaseRole.PRIMARY, token=token)


def promote_unplanned(regions: Regions, stack: Stack) -> Regions:
    """Makes a replica the primary with what it has; the database of the other region has diverged from then on.

    This also ends a planned switch whose token can't be had or whose position is never reached, and one whose new
    primary is lost before the roles are told of it: the demoted database has everything, as nothing worked since.
    """
    state, peer = regions.of(stack), regions.of(peer_of(stack))
    if state.role is DatabaseRole.PRIMARY and state.token is None and peer.role is DatabaseRole.DIVERGED:
        return regions
    phase = phase_of(regions)
    waits_for_ever = phase is Phase.PROMOTED and state.token is not None
    if not waits_for_ever:
        if phase in (Phase.ALONE, Phase.DIVERGED):
            raise StateRefused(f"{stack} can't be promoted: {_where(regions)}")
        _demand_role(regions, stack, DatabaseRole.REPLICA, "only a replica can be promoted")
    diverged = regions.with_database(peer.stack, role=DatabaseRole.DIVERGED, token=None)
    return diverged.with_database(stack, role=DatabaseRole.PRIMARY, token=None)


def switch(regions: Regions, stack: Stack, epoch: int) -> Regions:
    """Tells the roles of both regions that this one is the primary, under the next epoch."""
    if regions.primary is stack and regions.epoch == epoch and regions.primary_database is stack:
        return regions
    if epoch != regions.epoch + 1:
        raise StateRefused(
            f"--epoch {epoch}: the committed {regions.epoch} is followed by {regions.epoch + 1}; epochs never go back"
            " and are not skipped"
        )
    _demand(regions, Phase.PROMOTED, Step.SWITCH)
    _demand_role(regions, stack, DatabaseRole.PRIMARY, "the roles follow the primary database")
    return replace(regions, primary=stack, epoch=epoch)


def finish(regions: Regions, stack: Stack) -> Regions:
    """Removes the used token."""
    if phase_of(regions) not in (Phase.SWITCHED, Phase.SETTLED, Phase.DIVERGED):
        raise StateRefused(f"there is nothing to finish: {_where(regions)}")
    _demand_role(regions, stack, DatabaseRole.PRIMARY, "a switch is finished in the new primary region")
    return regions.with_database(stack, token=None)


def rebuild(regions: Regions, stack: Stack) -> Regions:
    """Makes the database of a region that has diverged, or that is passive and lost, anew from the primary's archive.

    It gets a new archive of its own. Nothing in the files tells a lost database from a good one, so that taking this
    step again begins one more archive.
    """
    if phase_of(regions) is not Phase.SETTLED:
        _demand(regions, Phase.DIVERGED, Step.REBUILD)
    if stack is regions.primary:
        raise StateRefused(f"{stack} is the primary: first promote {peer_of(stack)}")
    return _copied(regions, stack)


def _copied(regions: Regions, stack: Stack) -> Regions:
    return regions.with_database(
        stack,
        role=DatabaseRole.REPLICA,
        bootstrap=Bootstrap.RECOVERY,
        archive=regions.of(stack).archive + 1,
    )


def _demand(regions: Regions, phase: Phase, step: Step) -> None:
    if phase_of(regions) is not phase:
        raise StateRefused(f"{step} is not the next step: {_where(regions)}")


def _demand_role(regions: Regions, stack: Stack, role: DatabaseRole, why: str) -> None:
    found = regions.of(stack).role
    if found is not role:
        raise StateRefused(f"the database of {stack} is {found}: {why}")


def _where(regions: Regions) -> str:
    databases = ", ".join(f"the database of {stack} is {state.role}" for stack, state in regions.databases.items())
    return f"{databases}; the roles are told that {regions.primary} is the primary, under epoch {regions.epoch}"
