"""`infra promote-region`: one step of a region switch, written to gitops/regions/ and committed; it pushes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import assert_never

import click

from dispatchd_infra import folder, regions
from dispatchd_infra.git import Git, GitError
from dispatchd_infra.manifests.postgres_cluster import region_objects
from dispatchd_infra.promotion import branch, gates, region_status, steps, token
from dispatchd_infra.promotion.guide import Guide
from dispatchd_infra.promotion.region_status import RegionStatus
from dispatchd_infra.promotion.steps import Step
from dispatchd_infra.region_state import Regions, StateRefused, peer_of
from dispatchd_infra.regions import DatabaseObjects
from dispatchd_infra.settings import PRODUCTION, Stack, read_common, read_environment

_NEEDED = {Step.SWITCH: {"epoch"}}
_TAKEN = {
    Step.DEMOTE: {"status", "gates_confirmed"},
    Step.PROMOTE: {"token", "unplanned", "fenced"},
    Step.SWITCH: {"epoch", "status", "gates_confirmed"},
    Step.FINISH: {"status", "gates_confirmed"},
    Step.BOOTSTRAP_PASSIVE: {"gates_confirmed"},
    Step.REBUILD: {"gates_confirmed"},
}
"""The options of each step, besides --region and --commit."""


@dataclass(frozen=True, slots=True)
class _Options:
    token: str | None
    unplanned: bool
    fenced: str | None
    epoch: int | None
    status: Sequence[Path]
    gates_confirmed: Sequence[str]

    def check(self, step: Step) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        given = {name for name, value in values.items() if value is not None and value is not False and value != ()}
        for name in sorted(given - _TAKEN.get(step, set())):
            raise click.UsageError(f"--{name.replace('_', '-')} is no option of the step {step}")
        for name in sorted(_NEEDED.get(step, set()) - given):
            raise click.UsageError(f"the step {step} needs --{name}")


@click.command("promote-region")
@click.option(
    "--step", type=click.Choice([str(step) for step in Step]), help="Which step; without it: where the switch stands."
)
@click.option(
    "--region", type=click.Choice([str(stack) for stack in PRODUCTION]), help="The region that the step changes."
)
@click.option("--token", help="promote: what the demoted database shows in its status.")
@click.option("--unplanned", is_flag=True, help="promote: without a token, because the other region is lost.")
@click.option("--fenced", metavar="TEXT", help="promote --unplanned: how you made sure that the other can't write.")
@click.option("--epoch", type=int, help="switch: the committed epoch plus 1.")
@click.option(
    "--status",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `dispatchd region status --json` printed in a region, at most 10 minutes ago; may be repeated.",
)
@click.option("--gates-confirmed", multiple=True, metavar="NAME", help="A gate that no file can answer is open.")
@click.option("--commit", is_flag=True, help="Commit what was written.")
@click.pass_obj
def promote_region(
    infra: Path,
    step: str | None,
    region: str | None,
    token: str | None,
    unplanned: bool,
    fenced: str | None,
    epoch: int | None,
    status: Sequence[Path],
    gates_confirmed: Sequence[str],
    commit: bool,
) -> None:
    """Make another region the primary, step by step.

    Each step writes files below gitops/regions/, and takes effect once its commit is merged into the production
    branch. The state is read from these files, so that you can go on where somebody else stopped. Without --step this
    says where the switch stands and which command is next. docs/delivery.md walks through both kinds of switch.
    """
    command = _Command(infra)
    if step is None:
        state = command.state()
        click.echo("\n".join([*command.guide.where(state), *command.guide.next(state)]))
        note = branch.note(command.git, command.common.repository, state)
        if note is not None:
            click.echo(note)
        return
    options = _Options(token, unplanned, fenced, epoch, status, gates_confirmed)
    options.check(Step(step))
    if commit:
        command.git.check_author()
    if step == Step.REFRESH:
        command.refresh(commit=commit)
    elif region is None:
        raise click.UsageError(f"the step {step} needs --region")
    elif step == Step.BEGIN:
        command.begin(Stack(region), commit=commit)
    else:
        command.take(Step(step), Stack(region), options, commit=commit)


class _Command:
    """The steps, in one repository."""

    def __init__(self, infra: Path) -> None:
        self.git = Git(infra.parent)
        self.common = read_common(infra)
        environments = {stack: read_environment(infra, stack) for stack in PRODUCTION}
        self.guide = Guide(self.common, environments)
        self._objects: DatabaseObjects = partial(region_objects, self.common, environments)

    def state(self) -> Regions:
        """What the files say."""
        return regions.read(regions.files_in(self.git.root))

    def begin(self, stack: Stack, *, commit: bool) -> None:
        """Writes the first files of a new installation."""
        if regions.is_begun(regions.files_in(self.git.root)):
            raise StateRefused(f"{regions.PLACE}: these files are there already; only a new installation begins")
        self._write(Regions.at_first(stack), [f"Begin with {stack} as the primary region"], commit=commit)

    def refresh(self, *, commit: bool) -> None:
        """Writes the files anew, in the same state."""
        state = self.state()
        branch.check_refresh(self.git, self.common.repository, state)
        if not self._write(state, ["Bring the databases of the regions up to their settings"], commit=commit):
            click.echo("Nothing is different.")

    def take(self, step: Step, stack: Stack, options: _Options, *, commit: bool) -> None:
        """Takes a step of a switch if its gates are open, and says what is next."""
        before = self.state()
        branch.check_step(self.git, self.common.repository)
        self._check_written(before)
        if options.token is not None:
            self._check_token(before, stack, options.token)
        after = _after(step, before, stack, options)
        if after == before and step is not Step.FINISH:
            click.echo("This step is done already.")
        else:
            statuses = region_status.read(options.status, datetime.now(UTC))
            opened = gates.check(step, before, stack, statuses, options.gates_confirmed)
            message = _message(step, after, stack, options, opened, list(statuses.values()))
            if self._write(after, message, commit=commit):
                click.echo(self.guide.merge())
            else:
                click.echo("There is no token to remove.")
        if step is Step.FINISH:
            click.echo("\n".join(self.guide.finished(after)))
        click.echo("\n".join(self.guide.next(after)))

    def _write(self, state: Regions, message: Sequence[str], *, commit: bool) -> bool:
        """Writes what differs, and commits it if that is wanted. Returns whether anything did."""
        folders = regions.folders(state, self._objects)
        for each in folders:
            folder.plan(self.git.root, each)
        for each in folders:
            folder.write(self.git.root, each)
        changed = self.git.uncommitted(regions.PLACE)
        if not changed:
            return False
        wrote = "\n".join(f"wrote {path}" for path in changed)
        if commit:
            done = self.git.commit([regions.PLACE], "\n".join(message) + "\n")
            click.echo(f"{wrote}\nCommitted as {done}: {message[0]}")
        else:
            click.echo(wrote)
            click.echo("Look at it with `git diff`, and commit it before the next step; --commit does so.")
        return True

    def _check_written(self, state: Regions) -> None:
        """An edited file would be lost in the next step, or a change of settings would hide in it."""
        for each in regions.folders(state, self._objects):
            for difference in folder.differences(self.git.root, each):
                raise StateRefused(
                    f"{difference}: this is not what the settings and the state give: run"
                    " `infra promote-region --step refresh --commit` on the default branch first"
                )

    def _check_token(self, state: Regions, stack: Stack, given: str) -> None:
        token.check(given)
        if state.of(stack).token != given and self.git.ever_had(regions.PLACE, given):
            raise GitError(
                "--token: this token was used before; take the one that the database shows since its demotion"
            )


def _after(step: Step, before: Regions, stack: Stack, options: _Options) -> Regions:
    match step:
        case Step.BOOTSTRAP_PASSIVE:
            return steps.bootstrap_passive(before, stack)
        case Step.DEMOTE:
            return steps.demote(before, stack)
        case Step.PROMOTE:
            return _promoted(before, stack, options)
        case Step.SWITCH:
            assert options.epoch is not None
            return steps.switch(before, stack, options.epoch)
        case Step.FINISH:
            return steps.finish(before, stack)
        case Step.REBUILD:
            return steps.rebuild(before, stack)
        case Step.BEGIN | Step.REFRESH:
            return before
    assert_never(step)


def _promoted(before: Regions, stack: Stack, options: _Options) -> Regions:
    if not options.unplanned:
        if options.fenced is not None:
            raise click.UsageError("--fenced belongs to --unplanned")
        if options.token is None:
            raise StateRefused(
                "--token is missing: without the token of the demoted database its last changes are lost, and it has to"
                " be rebuilt. If that region is lost anyway, write --unplanned --fenced TEXT"
            )
        return steps.promote(before, stack, options.token)
    if options.token is not None:
        raise click.UsageError("with a token the promotion is a planned one: leave --unplanned away")
    if not (options.fenced or "").strip():
        raise StateRefused(
            f"--fenced TEXT is missing: first make sure that {peer_of(stack)} can't write, because the epoch does not"
            " stop a region whose Argo CD has not synced; then say how, for the commit message"
        )
    return steps.promote_unplanned(before, stack)


def _message(
    step: Step,
    after: Regions,
    stack: Stack,
    options: _Options,
    opened: Sequence[str],
    statuses: Sequence[RegionStatus],
) -> list[str]:
    peer = peer_of(stack)
    subject = {
        Step.BOOTSTRAP_PASSIVE: f"Give {stack} its first database, from the archive of {peer}",
        Step.DEMOTE: f"Demote the database of {stack}",
        Step.PROMOTE: f"Promote the database of {stack}" + (", unplanned" if options.unplanned else ""),
        Step.SWITCH: f"Make {stack} the primary region under epoch {after.epoch}",
        Step.FINISH: f"Remove the used token of {stack}",
        Step.REBUILD: f"Rebuild the database of {stack} from the archive of {peer}",
    }[step]
    body = [f"Gates: {', '.join(opened)}."] if opened else []
    if options.unplanned:
        body += [f"{peer} is fenced: {(options.fenced or '').strip()}"]
    body += [
        f"{each.region} at {each.read_at.isoformat()}: {each.database}, epoch {each.epoch}, {each.mode},"
        f" {each.in_flight} in flight."
        for each in statuses
    ]
    return [subject, *(["", *body] if body else [])]
