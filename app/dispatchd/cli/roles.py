"""The three roles as commands; all settings come from the environment."""

import sys

import click


@click.command()
def control_plane() -> None:
    """Serve clients (gRPC 8080, HTTP 9100)."""
    from dispatchd.entrypoints import control_plane as role

    sys.exit(role.main())


@click.command()
def scheduler() -> None:
    """Do what is due by time (HTTP 9101).

    That is retries, lost leases, repair and retention.
    """
    from dispatchd.entrypoints import scheduler as role

    sys.exit(role.main())


@click.command()
def worker_gateway() -> None:
    """Serve workers (gRPC 8080, HTTP 9102)."""
    from dispatchd.entrypoints import worker_gateway as role

    sys.exit(role.main())
