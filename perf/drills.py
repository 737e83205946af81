"""Drills: one fault on an installation under load, and what it did to the promises.

    python -m perf.drills --list
    python -m perf.drills --name kill_gateway [--json FILE]

A drill starts an installation of its own on this machine, two of each role under load, makes the fault, lets all jobs
come to their end, and compares what clients and workers noted down with the database. The drills are the single faults
of the fault suite. The exit code is 0 if every promise was kept and every target of recovery met, 1 if not, and 2 if
the drill was not run: there is none of that name, or this machine can't do it. Then nothing is written.
"""

import asyncio
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from dispatchd.entrypoints.embedded_server import EmbeddedServerError
from dispatchd.entrypoints.role_process import RoleFailed
from perf.bench.report import write_whole

_REPOSITORY = Path(__file__).parents[1]
# The fault suite lies among the tests, whose folder is on nobody's path but pytest's.
sys.path.append(str(_REPOSITORY / "tests"))

from faults.fault import Fault  # noqa: E402
from faults.faults import FAULTS  # noqa: E402
from faults.run import run as run_faults  # noqa: E402

NOT_KEPT = 1
NOT_RUN = 2
_SEEDS = 1_000_000

DRILLS: Mapping[str, Fault] = FAULTS
"""The registry: all drills that there are, by name."""


class CannotBeDone(Exception):
    """This machine can't make the fault of the drill."""


async def run(drill: Fault, seed: int, folder: Path) -> dict[str, object]:
    """Does a drill with its ledgers in a folder, and returns what came of it. Raises CannotBeDone."""
    code = await run_faults(
        "singles", seed=seed, minutes=None, only=drill.name, folder=folder, keep=True, is_evidence=True
    )
    found = json.loads((folder / "singles.json").read_text())
    if not found["rounds"]:
        raise CannotBeDone("this machine can't make this fault")
    del found["kind"], found["left_out"]
    return {"drill": drill.name, "says": drill.says, "passed": code == 0, **found}


def _list(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        width = max(len(name) for name in DRILLS)
        for name in sorted(DRILLS):
            click.echo(f"{name:<{width}}  {DRILLS[name].says}")
        context.exit()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", required=True, type=click.Choice(sorted(DRILLS)), metavar="NAME", help="Which drill.")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="Show all, and what each does."
)
@click.option("--seed", type=int, help="Decides the order of the load; by default any.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="[default: build/drill-NAME.json]")
def main(name: str, seed: int | None, json_file: Path | None) -> None:
    """Make one fault on an installation under load, check every promise, and write what came of it as JSON."""
    drill = DRILLS[name]
    folder = Path(tempfile.mkdtemp(prefix="dispatchd-drill-"))
    try:
        outcome = asyncio.run(run(drill, random.randrange(_SEEDS) if seed is None else seed, folder))
    except (CannotBeDone, EmbeddedServerError, RoleFailed, OSError) as failure:
        shutil.rmtree(folder, ignore_errors=True)
        click.echo(f"{name}: not run: {failure}", err=True)
        sys.exit(NOT_RUN)
    path = json_file or _REPOSITORY / "build" / f"drill-{name}.json"
    write_whole(path, json.dumps(outcome, indent=2) + "\n")
    if not outcome["passed"]:
        click.echo(f"{name}: NOT all was well; see {path}, and the ledgers in {folder}", err=True)
        sys.exit(NOT_KEPT)
    shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"{name}: every promise was kept; see {path}")


if __name__ == "__main__":
    main()
