"""Runs steps on this machine, without an engine: `python -m dispatchd_pipelines.native ci [STEP…]`.

Steps run in the order in which they are named. Neighbours that use one core each run two at a time, and what they print
is shown if they fail; a step that wants the machine for itself runs alone, and prints as it goes. A failure stops what
would come after it. The exit code is 0 if nothing failed, 1 if something did, 2 if the command line is wrong, and 75
(EX_TEMPFAIL) if no step could be run at all: what was not run is never taken for passed.

It needs only the standard library, so that any environment's Python will do.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dispatchd_pipelines.report import Outcome, Result, table
from dispatchd_pipelines.steps import STEPS, ImageRole, Needs, Step, UnknownStep, select

ROOT = Path(__file__).resolve().parents[3]
NOTHING_RAN = os.EX_TEMPFAIL
STEPS_AT_ONCE = 2

_FOLDERS: Mapping[ImageRole, str] = {
    ImageRole.PYTHON: ".venv/bin",
    ImageRole.INFRA: "infra/.venv/bin",
    ImageRole.PIPELINES: "pipelines/.venv/bin",
    ImageRole.SCAN: "pipelines/.venv/bin",
}
"""Where this machine has the executables of a role; what has no folder is looked for on the PATH alone."""

_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Set for the runner itself or for an environment of the caller's: the commands have their own."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="dispatchd_pipelines.native", description="Run steps on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    ci = commands.add_parser("ci", help="run these steps, or all of them")
    ci.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(each.name for each in STEPS))
    options = parser.parse_args(arguments)
    try:
        steps = select(options.steps) if options.steps else STEPS
    except UnknownStep as unknown:
        say(f"native ci: {unknown}")
        return 2
    results = run(steps, ROOT, say)
    say(table(results))
    return exit_code(results)


def say(line: str) -> None:
    """Shows progress, on standard error: standard output is left to the commands."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def exit_code(results: Sequence[Result]) -> int:
    outcomes = {result.outcome for result in results}
    if Outcome.FAILED in outcomes:
        return 1
    return 0 if Outcome.PASSED in outcomes else NOTHING_RAN


def run(steps: Sequence[Step], root: Path, progress: Callable[[str], None]) -> list[Result]:
    """Runs these in the tree at `root`; the results have the order of the steps."""
    results: list[Result] = []
    for batch in _batches(steps):
        failed = [result.step for result in results if result.outcome is Outcome.FAILED]
        if failed:
            results += [Result(each.name, Outcome.NOT_RUN, reason=f"{failed[0]} failed") for each in batch]
        elif len(batch) == 1:
            results.append(_run_one(batch[0], root, progress, shown=True))
        else:
            with ThreadPoolExecutor(STEPS_AT_ONCE) as pool:
                results += pool.map(lambda each: _run_one(each, root, progress, shown=False), batch)
    return results


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Neighbours that may run beside each other; those that may not are batches of their own."""
    for alone, neighbours in itertools.groupby(steps, key=lambda each: each.alone):
        if alone:
            yield from ([each] for each in neighbours)
        else:
            yield list(neighbours)


def _run_one(step: Step, root: Path, progress: Callable[[str], None], *, shown: bool) -> Result:
    missing = what_is_missing(step, root)
    if missing:
        result = Result(step.name, Outcome.NOT_RUN, reason=missing)
        progress(str(result))
        return result
    progress(f"running  {step.name}: {' '.join(step.argv)}")
    began = time.monotonic()
    code, printed = execute(step, root, shown=shown)
    seconds = time.monotonic() - began
    if code == 0:
        result = Result(step.name, Outcome.PASSED, seconds)
    elif code == NOTHING_RAN and step.needs is not Needs.NOTHING:
        result = Result(step.name, Outcome.NOT_RUN, seconds, f"needs {step.needs}")
    else:
        result = Result(step.name, Outcome.FAILED, seconds, f"exit code {code}")
    if result.outcome is not Outcome.PASSED and printed:
        progress(printed.rstrip("\n"))
    progress(str(result))
    return result


def execute(step: Step, root: Path, *, shown: bool) -> tuple[int, str]:
    """Runs the command of a step; returns its exit code and, unless it was shown at once, what it printed."""
    for output in step.outputs:
        (root / output).parent.mkdir(parents=True, exist_ok=True)
    kept = None if shown else subprocess.PIPE
    try:
        done = subprocess.run(
            step.argv,
            cwd=root / step.workdir,
            env=environment(step, root),
            stdin=subprocess.DEVNULL,
            stdout=kept,
            stderr=None if shown else subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return 127, f"there is no `{step.argv[0]}`: `make setup infra-setup pipelines-setup` makes the environments"
    return done.returncode, done.stdout or ""


def environment(step: Step, root: Path) -> dict[str, str]:
    """The environment variables of a command: the caller's, with the executables of the step's role found first."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    path = inherited.get("PATH", os.defpath)
    folder = _FOLDERS.get(step.image)
    if folder:
        path = f"{root / folder}{os.pathsep}{path}"
    return {**inherited, "PATH": path, **step.environment}


def what_is_missing(step: Step, root: Path) -> str:
    """What a step needs and this machine lacks, in a few words; empty if nothing."""
    return ""


if __name__ == "__main__":
    sys.exit(main())
