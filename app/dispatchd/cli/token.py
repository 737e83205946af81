"""`dispatchd token`."""

import os
from datetime import timedelta

import click

from dispatchd.cli.failures import EXIT_CODES, Mistaken
from dispatchd.cli.parameters import duration


@click.command(epilog=f"Example: dispatchd token ann --role submitter --role viewer --for 8h\n\n{EXIT_CODES}")
@click.argument("subject")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(("submitter", "viewer", "operator", "worker", "service", "admin")),
    help="What the bearer may do.",
)
@click.option("--for", "lifetime", type=duration, default="1h", show_default=True, help="How long it is valid.")
@click.option("--worker-id", metavar="ID", help="The only worker id that the bearer may register, in place of SUBJECT.")
def token(subject: str, roles: tuple[str, ...], lifetime: timedelta, worker_id: str | None) -> None:
    """Make a token for development.

    It is signed with AUTH_JWT_SHARED_SECRET (or the file that AUTH_JWT_SHARED_SECRET_FILE names), for AUTH_JWT_ISSUER
    and AUTH_JWT_AUDIENCE: give this command the environment of the roles. A worker's SUBJECT is its worker id.
    """
    from dispatchd.entrypoints.dev_token import make_token
    from dispatchd.entrypoints.settings import SettingsError

    if not subject:
        raise Mistaken("SUBJECT: it is empty; write the name of the bearer")
    if worker_id is not None and worker_id != subject and set(roles) == {"worker"}:
        raise Mistaken("--worker-id: with the role worker alone, SUBJECT is the worker id; leave this option out")
    try:
        click.echo(make_token(os.environ, subject, roles, lifetime, worker_id))
    except SettingsError as exc:
        raise Mistaken(str(exc)) from exc
