"""The command `infra`: writes gitops/, promotes images and regions, and prepares clusters."""

from pathlib import Path
from typing import Any

import click

from dispatchd_infra.commands.check_production import check_production
from dispatchd_infra.commands.dev_secret import dev_secret
from dispatchd_infra.commands.promote_image import promote_image
from dispatchd_infra.commands.promote_region import promote_region
from dispatchd_infra.commands.render import render_command
from dispatchd_infra.commands.render_cluster import render_cluster
from dispatchd_infra.commands.status import status
from dispatchd_infra.folder import FolderError
from dispatchd_infra.git import GitError
from dispatchd_infra.images import ImageRefused
from dispatchd_infra.promotion.gates import GateRefused
from dispatchd_infra.promotion.region_status import StatusRefused
from dispatchd_infra.region_state import StateRefused
from dispatchd_infra.settings import SettingsError

REFUSALS = (SettingsError, FolderError, GitError, ImageRefused, GateRefused, StatusRefused, StateRefused)
"""What a person can mend; the text says how."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; a refusal is its text alone, without a traceback, and so is a file that can't be read."""
        try:
            return super().invoke(ctx)
        except REFUSALS as exc:
            raise click.ClickException(str(exc)) from exc
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--infra",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(__file__).parents[2],
    help="The folder infra/ of a repository. Without it: the one that this command belongs to.",
)
@click.pass_context
def main(ctx: click.Context, infra: Path) -> None:
    """Delivery of dispatchd: see docs/delivery.md."""
    ctx.obj = infra.resolve()


main.add_command(check_production)
main.add_command(dev_secret)
main.add_command(promote_image)
main.add_command(promote_region)
main.add_command(render_command)
main.add_command(render_cluster)
main.add_command(status)
