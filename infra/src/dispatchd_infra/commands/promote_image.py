"""`infra promote-image`: writes which images an environment runs; a pull request with that file is the release."""

from collections.abc import Sequence
from pathlib import Path

import click

from dispatchd_infra import folder, images, regions
from dispatchd_infra.git import Git
from dispatchd_infra.images import ImageRefused, Images
from dispatchd_infra.promotion import release
from dispatchd_infra.region_state import StateRefused, peer_of
from dispatchd_infra.settings import ENVIRONMENTS, PRODUCTION, Common, SettingsError, Stack, read_common

_PRODUCTION = "production"
_TARGETS = [*map(str, ENVIRONMENTS), _PRODUCTION]


@click.command("promote-image")
@click.option("--env", "env", type=click.Choice(_TARGETS), help="The environment that gets the images named here.")
@click.option(
    "--images",
    "images_json",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The images.json of a release: service, ref and digest of every role.",
)
@click.option("--image", "named", multiple=True, metavar="ROLE=TAG@sha256:…", help="One role; may be repeated.")
@click.option("--tag", help="One tag for every role, without a digest; for dev only.")
@click.option(
    "--from", "source", type=click.Choice([str(stack) for stack in ENVIRONMENTS]), help="The environment to copy from."
)
@click.option("--to", "target", type=click.Choice(_TARGETS), help="The environment that gets the same images.")
@click.option("--force", is_flag=True, help="To production, take digests that never stood in staging.")
@click.pass_obj
def promote_image(
    infra: Path,
    env: str | None,
    images_json: Path | None,
    named: Sequence[str],
    tag: str | None,
    source: str | None,
    target: str | None,
    force: bool,
) -> None:
    """Choose the images of an environment.

    This writes gitops/overlays/ENVIRONMENT/images/kustomization.yaml and nothing else. `production` means both regions.
    Commit the file in a pull request to the default branch; production follows once that branch is merged into it.

    \b
    infra promote-image --env staging --images images.json
    infra promote-image --env staging --image scheduler=v1.2.3@sha256:…
    infra promote-image --env dev --tag sha-1234567
    infra promote-image --from staging --to production
    """
    git = Git(infra.parent)
    common = read_common(infra)
    if env is not None and source is None and target is None:
        chosen = _chosen(common, images_json, named, tag, env)
        stacks = _stacks(env)
    elif source is not None and target is not None and env is None and not (images_json or named or tag):
        chosen = _read(git.root, common, Stack(source))
        stacks = _stacks(target)
    else:
        raise click.UsageError("write --env with --images, --image or --tag; or --from with --to, and none of those")
    changes = _promote(git, common, stacks, chosen, force)
    click.echo("\n".join(changes or ["nothing to change: these images stand there already"]))
    for line in _advice(git.root, common, stacks, bool(changes)):
        click.echo(line)


def _chosen(common: Common, images_json: Path | None, named: Sequence[str], tag: str | None, env: str) -> Images:
    if sum((images_json is not None, bool(named), tag is not None)) != 1:
        raise click.UsageError("--env needs exactly one of --images, --image and --tag")
    if images_json is not None:
        return release.published(images_json.read_bytes(), images_json.name, common)
    if tag is not None and env != Stack.DEV:
        raise ImageRefused(
            f"{env}: --tag is for dev only, because a tag may change its meaning:"
            " name digests by --image or --images, or copy them by --from and --to"
        )
    return release.named(named, common) if tag is None else release.tagged(tag, common)


def _stacks(target: str) -> tuple[Stack, ...]:
    return PRODUCTION if target == _PRODUCTION else (Stack(target),)


def _read(root: Path, common: Common, stack: Stack) -> Images:
    path = images.path_of(stack)
    text = regions.files_in(root)(path)
    return images.at_first(common, stack) if text is None else images.read(text, common, path)


def _promote(git: Git, common: Common, stacks: Sequence[Stack], chosen: Images, force: bool) -> list[str]:
    """Checks every environment before the first file is written."""
    changes: list[str] = []
    folders = []
    for stack in stacks:
        release.check(stack, chosen, git, common.repository.main, force=force)
        before = _read(git.root, common, stack)
        after: Images = {**before, **chosen}
        changes += release.changes(stack, before, after)
        folders.append(images.folder(common, stack, after))
    for each in folders:
        folder.plan(git.root, each)
    for each in folders:
        folder.write(git.root, each)
    return changes


def _advice(root: Path, common: Common, stacks: Sequence[Stack], is_changed: bool) -> list[str]:
    main, production = common.repository.main, common.repository.production
    lines = []
    if is_changed:
        lines.append(f"Next: commit this, and open a pull request to {main}.")
        if any(stack.is_production for stack in stacks):
            lines.append(f"Then a pull request that merges {main} into {production}, by a merge commit, releases it.")
    if len(stacks) == 1 and stacks[0].is_production and stacks[0] is _passive(root):
        lines.append(
            f"Note: {stacks[0]} is the passive region. If this release needs a new schema, it can't become ready there"
            " before the primary region has migrated: promote the primary region first, or both by --to production."
        )
    return lines


def _passive(root: Path) -> Stack | None:
    """The production region that is not the primary, as far as that is written down."""
    try:
        return peer_of(regions.read(regions.files_in(root)).primary)
    except (SettingsError, StateRefused):
        return None
