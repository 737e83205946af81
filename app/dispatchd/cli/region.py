"""`dispatchd region`: which region may change jobs; over DATABASE_URL, so that it works when no role does."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dispatchd.cli.failures import EXIT_CODES, CommandFailed, NotYet, database_failures
from dispatchd.cli.parameters import CommandT, as_json, duration

if TYPE_CHECKING:
    from dispatchd.application.region_switch import Blockers, Progress, RegionSwitch, Switched

AnswerT = TypeVar("AnswerT")

_REGION_NAME = re.compile(r"[A-Za-z0-9._:/@-]{1,64}", re.ASCII)
_PROGRESS_EVERY = timedelta(seconds=5)


@click.group()
def region() -> None:
    """Show and switch the primary region.

    Exactly one region is the primary: it takes changes, all others only answer reads. One row in the database says
    which. Every switch gives the row the next epoch, and names the epoch that it expects, so that two operators can't
    overwrite each other. These commands use DATABASE_URL, so that they work when no role does.

    \b
    A planned switch from A to B:
      dispatchd region status
      dispatchd region drain --expect-epoch 7    new work is refused, what runs ends
      dispatchd region set B --expect-epoch 7    B is the primary, under epoch 8

    Before the last step the switch can be given up: `drain --undo` takes new work again, under the same epoch.
    """


def _expect_epoch(command: CommandT) -> CommandT:
    return click.option(
        "--expect-epoch",
        type=click.IntRange(1, 2**31 - 1),
        required=True,
        metavar="N",
        help="The epoch that `region status` shows; with any other nothing is changed.",
    )(command)


def _waiting_options(command: CommandT) -> CommandT:
    patience = click.option(
        "--patience",
        type=duration,
        default="30s",
        show_default=True,
        help="How long to wait for older transactions before they are named.",
    )
    terminate = click.option(
        "--terminate", is_flag=True, help="End the sessions of older transactions that outlast the patience."
    )
    return patience(terminate(command))


@region.command(epilog="Example: dispatchd region status --json")
@as_json
def status(as_json: bool) -> None:
    """Show the primary, and how far this database is.

    It shows the row (primary, epoch, mode), the REGION of this process, and of the database in DATABASE_URL: whether it
    is a primary or a replica, its position in the write-ahead log, how many executions workers hold, and when the last
    lease ends that runs now. All of this is of one moment, nothing is changed, and a replica answers it too.

    A planned switch compares the two regions: all that a primary shows here was written at or before its position, so
    that a replica at that position, or farther, has all of it.
    """
    from dispatchd.application.region_switch import RegionSwitchRefused
    from dispatchd.cli import region_report
    from dispatchd.entrypoints.settings import load_database_settings

    try:
        with database_failures():
            name = load_database_settings(os.environ).region
            found = asyncio.run(_with_switch(lambda switch: switch.status()))
    except RegionSwitchRefused as exc:
        raise CommandFailed(str(exc)) from exc
    shape, text = region_report.status_shape, region_report.status_text
    click.echo(json.dumps(shape(name, found)) if as_json else text(name, found))


@region.command(epilog=f"Example: dispatchd region drain --expect-epoch 7\n\n{EXIT_CODES}")
@_expect_epoch
@click.option("--undo", is_flag=True, help="Give the switch up: take new work again, under the same epoch.")
@_waiting_options
@as_json
def drain(expect_epoch: int, undo: bool, patience: timedelta, terminate: bool, as_json: bool) -> None:
    """Begin a planned switch: refuse new work.

    Submits and claims are refused from now on; results, renewals and cancels go in. It is done once every transaction
    has ended that began before. The role in DATABASE_URL needs pg_read_all_stats.

    With --undo the region is active again, as before the drain. There is nothing to wait for then.
    """
    if undo:
        if terminate:
            raise click.UsageError("--undo waits for no transaction, so there is none for --terminate to end")
        _run(lambda switch: switch.undo_drain(expect_epoch), patience, terminate, as_json)
        return
    _run(lambda switch: switch.drain(expect_epoch), patience, terminate, as_json)


@region.command("set", epilog=f"Example: dispatchd region set eu-2 --expect-epoch 7\n\n{EXIT_CODES}")
@click.argument("primary")
@_expect_epoch
@_waiting_options
@as_json
def set_primary(primary: str, expect_epoch: int, patience: timedelta, terminate: bool, as_json: bool) -> None:
    """Make another region the primary.

    PRIMARY becomes the region that may change jobs, under the next epoch. It is done once every transaction has ended
    that began before: from then on nothing that the old primary wrote can still be committed. When that takes longer
    than the patience, the sessions in the way are named and the exit code is 4; the same command then goes on waiting.
    The role in DATABASE_URL needs pg_read_all_stats.
    """
    if _REGION_NAME.fullmatch(primary) is None:
        raise click.BadParameter(
            "write 1 to 64 letters, digits and the characters . _ - : / @, as in REGION", param_hint="PRIMARY"
        )
    _run(lambda switch: switch.set_primary(primary, expect_epoch), patience, terminate, as_json)


@region.command(
    epilog=f"Example: REGION=eu-2 PRIMARY_REGION=eu-2 REGION_EPOCH=8 dispatchd region apply\n\n{EXIT_CODES}"
)
@_waiting_options
@as_json
def apply(patience: timedelta, terminate: bool, as_json: bool) -> None:
    """Switch as a deployment says.

    What it says are REGION, PRIMARY_REGION and REGION_EPOCH. This does nothing on a read-only database, or when the row
    agrees already. It switches when REGION is PRIMARY_REGION and REGION_EPOCH is the epoch of the row plus 1.
    Everything else is a mistake, and fails.
    """
    from dispatchd.application.region_switch import Deployment
    from dispatchd.entrypoints.settings import load_database_settings

    with database_failures():
        settings = load_database_settings(os.environ)
    deployment = Deployment(settings.region, settings.primary_region, settings.region_epoch)
    _run(lambda switch: switch.apply(deployment), patience, terminate, as_json)


def _run(
    work: "Callable[[RegionSwitch], Awaitable[Switched]]", patience: timedelta, terminates: bool, as_json: bool
) -> None:
    from dispatchd.application.region_switch import RegionSwitchRefused, StillBlocked, SwitchOvertaken
    from dispatchd.cli import region_report

    try:
        with database_failures(), _progress() as progress:
            done = asyncio.run(_with_switch(work, patience=patience, terminates=terminates, progress=progress))
    except (RegionSwitchRefused, SwitchOvertaken) as exc:
        raise CommandFailed(str(exc)) from exc
    except StillBlocked as exc:
        if as_json:
            click.echo(json.dumps(region_report.blocked_shape(exc)))
        raise NotYet(region_report.blocked_text(exc, terminates=terminates)) from exc
    except KeyboardInterrupt:
        raise NotYet("interrupted: if the row is changed already, the same command goes on waiting") from None
    click.echo(json.dumps(region_report.switched_shape(done)) if as_json else region_report.switched_text(done))


async def _with_switch(work: "Callable[[RegionSwitch], Awaitable[AnswerT]]", **options: Any) -> AnswerT:
    from dispatchd.adapters.postgres.database import Database
    from dispatchd.adapters.postgres.migrate import check_schema
    from dispatchd.adapters.postgres.region_switch import PostgresRegionSwitchStore
    from dispatchd.application.region_switch import RegionSwitch
    from dispatchd.entrypoints.settings import load_database_settings

    url = load_database_settings(os.environ).database_url
    async with Database(url, connections=1, application_name="dispatchd region") as database:
        await check_schema(database)
        return await work(RegionSwitch(PostgresRegionSwitchStore(database), **options))


@contextmanager
def _progress() -> "Iterator[Progress]":
    """Shows on standard error what is waited for: a live line on a terminal, else a line every 5 s."""
    from dispatchd.cli.region_report import waiting_text

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("looking") as live:
            yield lambda blockers, waited: live.update(Text(waiting_text(blockers, waited)))
        return
    next_at = timedelta(0)

    def write(blockers: "Blockers", waited: timedelta) -> None:
        nonlocal next_at
        if waited >= next_at:
            next_at = waited + _PROGRESS_EVERY
            click.echo(waiting_text(blockers, waited), err=True)

    yield write
