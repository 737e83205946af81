"""`dispatchd certs dev`."""

import shlex
from pathlib import Path

import click

from dispatchd.cli.failures import EXIT_CODES, CommandFailed, Mistaken


@click.group()
def certs() -> None:
    """Make certificates for development."""


@certs.command(epilog=f"Example: dispatchd certs dev --client mailer-1\n\n{EXIT_CODES}")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="certs",
    show_default=True,
    help="Where they are written. An authority that is there already is used again.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=("localhost", "127.0.0.1", "::1"),
    show_default=True,
    metavar="HOST",
    help="A name or address of the server; may be repeated.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    default=("client",),
    show_default=True,
    metavar="NAME",
    help="The name of a client, or the id of a worker; may be repeated.",
)
def dev(folder: Path, hosts: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Make a local authority, and a server's and clients' certificates.

    Whoever has ca-key.pem can make more of them: for development only. Running it again renews the certificates; roles
    take the new ones without a restart.
    """
    from dispatchd.entrypoints.dev_certificates import DevAuthority, UnusableName, check_client, check_host

    # Before anything is written.
    for option, names, check in (("--client", clients, check_client), ("--host", hosts, check_host)):
        for name in names:
            try:
                check(name)
            except UnusableName as exc:
                raise Mistaken(f"{option} {exc}") from exc
    if (folder / "ca.pem").exists() and not (folder / "ca-key.pem").exists():
        raise Mistaken(f"{folder} has ca.pem without ca-key.pem: remove that, or choose another --folder")
    try:
        authority = DevAuthority(folder)
        server = authority.server(hosts)
        made = [authority.client(name) for name in dict.fromkeys(clients)]
    except OSError as exc:
        raise CommandFailed(f"{exc.filename} can't be read or written ({exc.strerror})") from exc
    except ValueError as exc:
        raise CommandFailed(
            f"ca.pem and ca-key.pem in {folder} are no authority that was made here: remove both, or choose another "
            "--folder"
        ) from exc
    click.echo(f"authority  {authority.certificate_file}")
    for what, (certificate, key) in [("server", server), *(("client", each) for each in made)]:
        click.echo(f"{what:9}  {certificate}  {key}")
    ca, server_file, server_key, client_file, client_key = (
        shlex.quote(str(file.absolute())) for file in (authority.certificate_file, *server, *made[0])
    )
    click.echo(
        f"\nFor the roles:    TLS_ENABLED=true TLS_CERT_FILE={server_file} TLS_KEY_FILE={server_key} "
        f"TLS_REQUIRE_CLIENT_CERT=true TLS_CLIENT_CA_FILE={ca}\n"
        f"For the commands: DISPATCHD_CA_FILE={ca} DISPATCHD_CERT_FILE={client_file} DISPATCHD_KEY_FILE={client_key}"
    )
