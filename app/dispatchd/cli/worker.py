"""`dispatchd worker`."""

import click

from dispatchd.cli.access import Access, access_options, refusal_of
from dispatchd.cli.failures import EXIT_CODES, CommandFailed, Mistaken
from dispatchd.cli.parameters import address


@click.command(epilog=f"Example: dispatchd worker shop.tasks:worker --concurrency 20\n\n{EXIT_CODES}")
@click.argument("reference", metavar="MODULE:WORKER")
@click.option(
    "--gateway",
    envvar="DISPATCHD_GATEWAY",
    type=address,
    show_envvar=True,
    metavar="HOST:PORT",
    help="A worker-gateway, in place of the one in the code.",
)
@click.option("--worker-id", metavar="ID", help="Unique among living workers, in place of the one in the code.")
@click.option("--concurrency", type=click.IntRange(1, 1_000), help="Tasks at once, in place of the number in the code.")
@access_options
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error"), case_sensitive=False),
    default="info",
    show_default=True,
    help="What is written to standard error.",
)
def worker(
    reference: str,
    gateway: str | None,
    worker_id: str | None,
    concurrency: int | None,
    log_level: str,
    access: Access,
) -> None:
    """Run a worker of your own.

    MODULE:WORKER names the Worker object in your code. The module is looked for in the current folder too. SIGTERM or
    Ctrl-C lets running tasks finish; a second one stops at once. A token and files for TLS that are given here take
    the place of those in the code, and are read again when they change.
    """
    import logging

    from dispatchd.sdk.errors import DispatchdError, WorkerReferenceError
    from dispatchd.sdk.load import load_worker

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    try:
        loaded = load_worker(reference)
    except WorkerReferenceError as exc:
        raise Mistaken(exc.message) from exc
    loaded.target = gateway or loaded.target
    loaded.worker_id = worker_id or loaded.worker_id
    loaded.max_concurrency = concurrency or loaded.max_concurrency
    loaded.use(token=access.token, tls=access.tls)
    try:
        loaded.run()
    except DispatchdError as exc:
        raise refusal_of(exc, loaded.target, access) or CommandFailed(exc.message) from exc
