"""`dispatchd token`."""

import os
from datetime import timedelta

import click

from dispatchd.cli.failures import EXIT_CODES, Mistaken
from dispatchd.cli.parameters import duration
from dispatchd.domain.access import ANY_WORKER, AccessRole

EXAMPLES = """\b
Examples:
  export DISPATCHD_TOKEN=$(dispatchd token ann --role submitter --role viewer)
  dispatchd token --role worker --worker-id mailer-1 --for 8h > mailer-1.token
"""


@click.command(epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@click.argument("subject", required=False)
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in AccessRole]),
    help="What the bearer may do; may be repeated.",
)
@click.option("--for", "lifetime", type=duration, default="1h", show_default=True, help="How long it is valid.")
@click.option("--worker-id", metavar="ID", help="With the role worker: the worker's id, which is SUBJECT too.")
def token(subject: str | None, roles: tuple[str, ...], lifetime: timedelta, worker_id: str | None) -> None:
    """Make a token for development.

    SUBJECT is the name of the bearer. With the role worker it is the only worker id that the bearer may register, and
    --worker-id says the same.

    Give this command the environment of the roles: the token is signed with AUTH_JWT_SHARED_SECRET (or the file that
    AUTH_JWT_SHARED_SECRET_FILE names), for AUTH_JWT_ISSUER and AUTH_JWT_AUDIENCE.
    """
    from dispatchd.entrypoints.dev_token import make_token
    from dispatchd.entrypoints.settings import SettingsError

    bearer = _bearer(subject, worker_id, set(roles))
    if lifetime < timedelta(seconds=1):
        raise Mistaken("--for: a token is valid for at least a second; write for example 8h")
    if not any(name.startswith("AUTH_JWT_") and value for name, value in os.environ.items()):
        raise Mistaken(
            "there is no secret to sign it with: set AUTH_JWT_SHARED_SECRET_FILE, or AUTH_JWT_SHARED_SECRET, to that "
            "of the roles. To begin with: export AUTH_JWT_SHARED_SECRET=$(openssl rand -base64 48)"
        )
    try:
        click.echo(make_token(os.environ, bearer, roles, lifetime, worker_id))
    except SettingsError as exc:
        raise Mistaken(str(exc)) from exc


def _bearer(subject: str | None, worker_id: str | None, roles: set[str]) -> str:
    """The subject of the token. A worker id that the roles would not keep to is a mistake."""
    from dispatchd.adapters.tokens import LONGEST_SUBJECT

    if worker_id is not None:
        if AccessRole.WORKER not in roles:
            raise Mistaken("--worker-id: it is for the role worker; add --role worker, or leave it out")
        if roles & ANY_WORKER:
            raise Mistaken(
                f"--worker-id: with the role {min(roles & ANY_WORKER)} the bearer may connect workers under any "
                "id; leave it out, or leave out that role"
            )
        if subject not in (None, worker_id):
            raise Mistaken(
                f"SUBJECT {subject!r} and --worker-id {worker_id!r} differ, and with the role worker the subject is "
                "the worker's id; leave one of them out"
            )
    bearer = worker_id if subject is None else subject
    if bearer is None:
        raise Mistaken("SUBJECT is missing: write the name of the bearer, or the worker's id after --worker-id")
    if not 1 <= len(bearer) <= LONGEST_SUBJECT or not bearer.isprintable():
        raise Mistaken(f"SUBJECT: write 1 to {LONGEST_SUBJECT} printable characters; no role takes another token")
    return bearer
