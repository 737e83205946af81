"""`dispatchd token`."""

import os
from datetime import timedelta

import click

from dispatchd.cli.failures import EXIT_CODES, Mistaken
from dispatchd.cli.parameters import duration

EXAMPLES = """\b
Examples:
  export DISPATCHD_TOKEN=$(dispatchd token ann --role submitter --role viewer)
  dispatchd token mailer-1 --role worker --for 8h > mailer-1.token
"""
# Who has one of these may connect workers under any id.
_FOR_ANY_WORKER = {"operator", "service", "admin"}


@click.command(epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@click.argument("subject")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(("submitter", "viewer", "operator", "worker", "service", "admin")),
    help="What the bearer may do; may be repeated.",
)
@click.option("--for", "lifetime", type=duration, default="1h", show_default=True, help="How long it is valid.")
@click.option("--worker-id", metavar="ID", help="Write the claim worker_id too. With the role worker it is SUBJECT.")
def token(subject: str, roles: tuple[str, ...], lifetime: timedelta, worker_id: str | None) -> None:
    """Make a token for development.

    SUBJECT is the name of the bearer; with the role worker it is the only worker id that the bearer may register.

    Give this command the environment of the roles: the token is signed with AUTH_JWT_SHARED_SECRET (or the file that
    AUTH_JWT_SHARED_SECRET_FILE names), for AUTH_JWT_ISSUER and AUTH_JWT_AUDIENCE.
    """
    from dispatchd.entrypoints.dev_token import make_token
    from dispatchd.entrypoints.settings import SettingsError

    if not subject:
        raise Mistaken("SUBJECT: it is empty; write the name of the bearer")
    if worker_id not in (None, subject) and "worker" in roles and not _FOR_ANY_WORKER & set(roles):
        raise Mistaken("--worker-id: with the role worker, SUBJECT is the worker id; leave this option out")
    if lifetime < timedelta(seconds=1):
        raise Mistaken("--for: a token is valid for at least a second; write for example 8h")
    if not any(name.startswith("AUTH_JWT_") and value for name, value in os.environ.items()):
        raise Mistaken(
            "there is no secret to sign it with: set AUTH_JWT_SHARED_SECRET_FILE, or AUTH_JWT_SHARED_SECRET, to that "
            "of the roles. To begin with: export AUTH_JWT_SHARED_SECRET=$(openssl rand -base64 48)"
        )
    try:
        click.echo(make_token(os.environ, subject, roles, lifetime, worker_id))
    except SettingsError as exc:
        raise Mistaken(str(exc)) from exc
