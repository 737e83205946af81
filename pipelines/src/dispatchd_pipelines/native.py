"""Runs steps on this machine, without an engine: `python -m dispatchd_pipelines.native ci [STEP…]`.

Steps run in the order in which they are named. Neighbours that use one core each run two at a time, and what they print
is shown if they fail; a step that wants the machine for itself runs alone and prints as it goes. After a failure
nothing further is begun. The exit code is 0 if nothing failed, 1 if something did, 2 if a name is wrong, and 75
(EX_TEMPFAIL) if no step could be run at all: what was not run is never taken for passed.

It needs only the standard library, so that any environment's Python will do.
"""

import argparse
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from dispatchd_pipelines.machine import ExecutableMissing, Machine
from dispatchd_pipelines.report import Outcome, Result, closing_line, table
from dispatchd_pipelines.steps import STEPS, Needs, Step, UnknownStep, select

ROOT = Path(__file__).resolve().parents[3]
STEPS_AT_ONCE = 2
NOT_RUN = os.EX_TEMPFAIL
"""What a command that needs something from outside exits with if that could not be reached."""


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
    signal.signal(signal.SIGTERM, _stop)
    try:
        results = run(steps, Machine(ROOT), say)
    except KeyboardInterrupt:
        say("native ci: interrupted")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Who read along has had enough, as `| head` has. Nothing is left to be said, also not when Python ends.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 128 + signal.SIGPIPE
    say(table(results))
    return exit_code(results)


def say(line: str) -> None:
    """Shows progress, on standard error: standard output is left to the commands."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def exit_code(results: Sequence[Result]) -> int:
    """0 only if nothing failed and something was run."""
    outcomes = {result.outcome for result in results}
    if Outcome.FAILED in outcomes:
        return 1
    return 0 if Outcome.PASSED in outcomes else NOT_RUN


def run(steps: Sequence[Step], machine: Machine, progress: Callable[[str], None]) -> list[Result]:
    """Runs these; the results have the order of the steps."""
    results: list[Result] = []
    for batch in _batches(steps):
        failed = [result.step for result in results if result.outcome is Outcome.FAILED]
        if failed:
            results += [Result(each.name, Outcome.NOT_RUN, reason=f"{failed[0]} failed before") for each in batch]
        elif len(batch) == 1:
            results.append(_run_one(batch[0], machine, progress, shown=True))
        else:
            with ThreadPoolExecutor(STEPS_AT_ONCE) as pool:
                try:
                    results += pool.map(lambda each: _run_one(each, machine, progress, shown=False), batch)
                except BaseException:
                    machine.stop()
                    raise
    return results


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Neighbours that may run beside each other; a step that may not is a batch of its own."""
    for alone, neighbours in itertools.groupby(steps, key=lambda each: each.alone):
        if alone:
            yield from ([each] for each in neighbours)
        else:
            yield list(neighbours)


def _run_one(step: Step, machine: Machine, progress: Callable[[str], None], *, shown: bool) -> Result:
    missing = machine.lacks(step)
    if missing:
        progress(f"{step.name}: not run: {missing}")
        return Result(step.name, Outcome.NOT_RUN, reason=missing)
    progress(f"{step.name}: {' '.join(step.argv)}")
    began = time.monotonic()
    try:
        code, printed = machine.execute(step, shown=shown)
    except ExecutableMissing as missing_one:
        progress(f"{step.name}: failed: {missing_one}")
        return Result(step.name, Outcome.FAILED, reason=str(missing_one))
    seconds = time.monotonic() - began
    outcome = Outcome.PASSED if code == 0 else Outcome.FAILED
    reason = closing_line(printed) or (f"exit code {code}" if code else "")
    if code == NOT_RUN and step.needs is not Needs.NOTHING:
        outcome, reason = Outcome.NOT_RUN, f"it needs {step.needs}"
    if outcome is not Outcome.PASSED and not shown and printed:
        progress(printed.rstrip("\n"))
    progress(f"{step.name}: {outcome} after {seconds:.1f} s")
    return Result(step.name, outcome, seconds, reason)


def _stop(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
