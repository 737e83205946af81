"""`python -m dispatchd.demo`: the exit code is 0 if every acknowledged job has ended, and 1 otherwise."""

import asyncio
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from dispatchd import DispatchdError
from dispatchd.demo.audit import Audit, audit
from dispatchd.demo.show import ProgressScreen, show
from dispatchd.entrypoints.embedded_server import EmbeddedServerError
from dispatchd.entrypoints.installation import InstallationError
from dispatchd.entrypoints.role_process import RoleFailed

_SERVERS = ("DATABASE_URL", "REDIS_ADDRESS", "REDIS_PASSWORD")


@click.command()
@click.option(
    "--site",
    "sites",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A site-packages folder to audit instead of this environment's; may be repeated.",
)
@click.option(
    "--given-servers",
    "is_given_servers",
    is_flag=True,
    help="Use the servers of DATABASE_URL and REDIS_ADDRESS, which hold nothing yet, instead of starting some.",
)
def main(sites: tuple[Path, ...], is_given_servers: bool) -> None:
    """Audit the installed Python distributions with dispatchd, while a worker and a worker-gateway are killed."""
    servers = _given_servers() if is_given_servers else {}
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="dispatchd-demo-"))
    console.print("[bold]dispatchd demo[/bold]: does every installed file have the hash its distribution lists?\n")
    try:
        done = _run(sites or environment_sites(), folder, console, servers)
    except KeyboardInterrupt:
        # After a second Ctrl-C the servers may still be ending.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if done is not None:
        show(done, console)
    if done is not None and done.report.ledger.holds:
        shutil.rmtree(folder)
        return
    console.print(f"The ledger, the logs and the data are kept in {folder}.", markup=False, soft_wrap=True)
    sys.exit(1)


def _given_servers() -> dict[str, str]:
    missing = [name for name in ("DATABASE_URL", "REDIS_ADDRESS") if not os.environ.get(name)]
    if missing:
        raise click.UsageError(f"--given-servers needs {' and '.join(missing)} in the environment.")
    return {name: os.environ[name] for name in _SERVERS if name in os.environ}


def _run(sites: Sequence[Path], folder: Path, console: Console, servers: Mapping[str, str]) -> Audit | None:
    """None if the demo could not be carried out, which is then said."""
    try:
        with ProgressScreen(console) as screen:
            return asyncio.run(audit(sites, folder, screen, servers))
    except* (InstallationError, EmbeddedServerError, RoleFailed, DispatchdError, TimeoutError) as failures:
        for failure in _leaves(failures):
            why = str(failure) or "nothing happened for too long"
            console.print(f"dispatchd demo: {why}", markup=False, soft_wrap=True)
    return None


def environment_sites() -> list[Path]:
    """The folders into which this environment's distributions are installed."""
    return [Path(path) for path in dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for exc in group.exceptions:
        leaves += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return leaves


if __name__ == "__main__":
    main(prog_name="dispatchd demo")
