"""`dispatchd certs dev`."""

import re
from pathlib import Path

import click

from dispatchd.cli.failures import EXIT_CODES, CommandFailed, Mistaken

_CLIENT_NAME = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,199}", re.ASCII)


@click.group()
def certs() -> None:
    """Make certificates for development."""


@certs.command(epilog=f"Example: dispatchd certs dev --client mailer-1\n\n{EXIT_CODES}")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="certs",
    show_default=True,
    help="Where they are written; an authority that is there already is used again.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1", "::1"),
    show_default=True,
    help="A name or address of the server.",
)
@click.option(
    "--client", "clients", multiple=True, default=("client",), show_default=True, help="The name of a client or worker."
)
def dev(folder: Path, hosts: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Make a local authority, and a server's and clients' certificates.

    Whoever has ca-key.pem can make more of them: for development only. Running it again renews the certificates; roles
    take the new ones without a restart.
    """
    from dispatchd.entrypoints.dev_certificates import DevAuthority

    for name in clients:
        if _CLIENT_NAME.fullmatch(name) is None or name in ("ca", "server"):
            raise Mistaken(
                f"--client {name!r}: write 1 to 200 letters, digits and . _ - : @, and neither ca nor server"
            )
    try:
        authority = DevAuthority(folder)
        server = authority.server(hosts)
        made = [authority.client(name) for name in clients]
    except (OSError, ValueError) as exc:
        raise CommandFailed(f"the certificates can't be made: {exc}") from exc
    click.echo(f"authority  {authority.certificate_file}")
    for what, (certificate, key) in [("server", server), *(("client", each) for each in made)]:
        click.echo(f"{what:9}  {certificate}  {key}")
    click.echo(
        f"\nFor the roles:    TLS_ENABLED=true TLS_CERT_FILE={server[0]} TLS_KEY_FILE={server[1]} "
        f"TLS_REQUIRE_CLIENT_CERT=true TLS_CLIENT_CA_FILE={authority.certificate_file}\n"
        f"For the commands: DISPATCHD_CA_FILE={authority.certificate_file} DISPATCHD_CERT_FILE={made[0][0]} "
        f"DISPATCHD_KEY_FILE={made[0][1]}"
    )
