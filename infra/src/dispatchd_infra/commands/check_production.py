"""`infra check-production`: finds what reached the production branch without a review on the default branch."""

from pathlib import Path

import click

from dispatchd_infra.git import Git
from dispatchd_infra.promotion import branch
from dispatchd_infra.settings import read_common


@click.command("check-production")
@click.pass_obj
def check_production(infra: Path) -> None:
    """Check that production has nothing of its own but region switches.

    Everything else comes to the production branch by a merge of the default branch. Both are looked at as the server
    had them at the last `git fetch`.
    """
    repository = read_common(infra).repository
    branch.check_production(Git(infra.parent), repository)
    click.echo(f"{repository.production} has nothing that {repository.main} lacks, but steps of a region switch")
