"""`infra status`: what runs where, and what waits to be promoted."""

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.promotion import overview
from dispatchd_infra.promotion.steps import Phase

_WIDTH_IN_A_FILE = 160
_AT_REST = (Phase.ALONE, Phase.SETTLED)


@click.command("status")
@click.pass_obj
def status(infra: Path) -> None:
    """Show images, region and epoch of every environment, and what is not promoted yet.

    This is what git says, as the server had it at the last `git fetch`; Argo CD shows what a cluster made of it.
    """
    found = overview.look(infra)
    table = Table("environment", "seen in", "images", "region", "epoch", "not promoted yet", show_lines=True)
    for row in found.rows:
        images = "\n".join(f"{role} {row.images[role]}" for role in SERVING)
        table.add_row(row.stack, row.seen_in, images, row.region, str(row.epoch), "\n".join(row.waiting))
    width = None if os.isatty(1) else _WIDTH_IN_A_FILE
    Console(width=width).print(table)
    if found.phase not in _AT_REST:
        click.echo(f"A switch of regions is {found.phase}: `infra promote-region` says what is next.")
