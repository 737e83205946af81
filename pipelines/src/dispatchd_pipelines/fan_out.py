"""Runs many jobs at once, a few at a time, and tells how each one ended. Nothing is cut short by another's failure."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
import dagger

from dispatchd_pipelines.report import Outcome, Result, table

TOLD_LINES = 40
"""As much of what a failed command printed is repeated in the report."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something that passes, or raises. One that is `alone` has the engine for itself, when all others are done."""

    name: str
    run: Callable[[], Awaitable[object]]
    alone: bool = False


class CheckFailed(Exception):
    """A check found something wrong, and says what."""


class NotRun(CheckFailed):
    """A check could not look where it has to. That is told as "not run", and it never counts as passed."""


class ChecksFailed(CheckFailed):
    """At least one job did not pass; the text is the report, with what those printed last."""


async def run(jobs: Sequence[Job], at_once: int, not_run: Sequence[Result] = ()) -> str:
    """Run all jobs; give the report, or raise it as `ChecksFailed`. What was `not_run` is told in either case."""
    if at_once < 1:
        raise ValueError(f"{at_once} jobs at once: at least 1 is needed")
    limit = anyio.CapacityLimiter(at_once)
    results: dict[str, Result] = {}
    details: dict[str, str] = {}

    async def one(job: Job) -> None:
        async with limit:
            began = time.monotonic()
            try:
                await job.run()
            except (dagger.DaggerError, CheckFailed) as failure:
                outcome = Outcome.NOT_RUN if isinstance(failure, NotRun) else Outcome.FAILED
                results[job.name] = Result(job.name, outcome, time.monotonic() - began, _reason(failure))
                details[job.name] = _told(failure)
            else:
                results[job.name] = Result(job.name, Outcome.PASSED, time.monotonic() - began)

    async with anyio.create_task_group() as group:
        for job in jobs:
            if not job.alone:
                group.start_soon(one, job, name=job.name)
    for job in jobs:
        if job.alone:
            await one(job)
    report = table([*(results[job.name] for job in jobs), *not_run])
    if details:
        told = [f"--- {job.name}\n{details[job.name]}" for job in jobs if job.name in details]
        raise ChecksFailed("\n".join([*told, report]))
    return report


def _reason(failure: Exception) -> str:
    if isinstance(failure, dagger.ExecError):
        return f"exit code {failure.exit_code}"
    return str(failure).splitlines()[-1] if str(failure) else type(failure).__name__


def _told(failure: Exception) -> str:
    printed = f"{failure.stdout}\n{failure.stderr}" if isinstance(failure, dagger.ExecError) else str(failure)
    return "\n".join(printed.strip().splitlines()[-TOLD_LINES:])
