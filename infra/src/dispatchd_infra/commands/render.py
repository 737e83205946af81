"""`infra render`: writes gitops/, or says how it differs."""

from functools import partial
from pathlib import Path

import click

from dispatchd_infra import regions
from dispatchd_infra.emit import Folder
from dispatchd_infra.folder import FolderError, differences, outside, plan, write
from dispatchd_infra.manifests.postgres_cluster import region_objects
from dispatchd_infra.render import render
from dispatchd_infra.settings import PRODUCTION, Stack, read_common, read_environment

_OF_REGIONS = tuple(f"{place}/" for place in regions.PLACES)
_RENDER, _REFRESH = "`make render`", "`infra promote-region --step refresh`"


@click.command("render")
@click.option("--stack", type=click.Choice([str(stack) for stack in Stack]), help="Only what this stack owns.")
@click.option("--check", is_flag=True, help="Write nothing; name each file that differs, and fail if there is one.")
@click.pass_obj
def render_command(infra: Path, stack: str | None, check: bool) -> None:
    """Write gitops/ from infra/.

    Files that are as they should be are not touched. A file that nobody generated, in a folder that is generated or
    that belongs to nobody, is named and nothing is written. --check looks at the files of a region switch, too, which
    only `infra promote-region` writes.
    """
    stacks = [Stack(stack)] if stack else list(Stack)
    folders = [folder for each in stacks for folder in render(infra, each)]
    root = infra.parent
    look = differences if check else plan
    looked_at = [*folders, *_regions(infra)] if check and not stack else folders
    found = [difference for folder in looked_at for difference in look(root, folder)]
    homeless = [] if stack else outside(root, "gitops", [*(folder.path for folder in folders), *regions.PLACES])
    if homeless and not check:
        raise FolderError(
            "\n".join(
                f"{each.path}: this lies in no folder of gitops/ that is generated; remove it" for each in homeless
            )
        )
    found += homeless
    for difference in found:
        click.echo(difference)
    if not check:
        for folder in folders:
            write(root, folder)
    elif found:
        needed = {_REFRESH if each.path.startswith(_OF_REGIONS) else _RENDER for each in found}
        remedy = " and ".join(sorted(needed, reverse=True))
        raise click.ClickException(f"gitops/ is not what infra/ makes: run {remedy}, and look at the difference")
    else:
        click.echo(f"{sum(len(folder.files) for folder in looked_at)} files are as rendered")


def _regions(infra: Path) -> list[Folder]:
    """The files of a region switch, as their state and the settings give them; `infra promote-region` writes them."""
    reader = regions.files_in(infra.parent)
    if not regions.is_begun(reader):
        return []
    environments = {stack: read_environment(infra, stack) for stack in PRODUCTION}
    return regions.folders(regions.read(reader), partial(region_objects, read_common(infra), environments))
