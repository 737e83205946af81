"""`infra render`: writes gitops/, or says how it differs."""

from pathlib import Path

import click

from dispatchd_infra import regions
from dispatchd_infra.folder import FolderError, differences, outside, plan, write
from dispatchd_infra.render import render
from dispatchd_infra.settings import Stack


@click.command("render")
@click.option("--stack", type=click.Choice([str(stack) for stack in Stack]), help="Only what this stack owns.")
@click.option("--check", is_flag=True, help="Write nothing; name each file that differs, and fail if there is one.")
@click.pass_obj
def render_command(infra: Path, stack: str | None, check: bool) -> None:
    """Write gitops/ from infra/.

    Files that are as they should be are not touched. A file that nobody generated, in a folder that is generated or
    that belongs to nobody, is named and nothing is written.
    """
    stacks = [Stack(stack)] if stack else list(Stack)
    folders = [folder for each in stacks for folder in render(infra, each)]
    root = infra.parent
    look = differences if check else plan
    found = [difference for folder in folders for difference in look(root, folder)]
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
        raise click.ClickException("gitops/ is not what infra/ makes: run `make render` and look at the difference")
    else:
        click.echo(f"{sum(len(folder.files) for folder in folders)} files are as rendered")
