"""Waiting for a job from the command line, and showing how it ended."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from dispatchd.cli.failures import CommandFailed, NotYet
from dispatchd.cli.parameters import CommandT, duration
from dispatchd.cli.words import counted, on_one_line

if TYPE_CHECKING:
    from dispatchd.sdk.client.client import Client
    from dispatchd.sdk.job import Job


def at_most_option(command: CommandT) -> CommandT:
    """How long to wait for the end of a job."""
    option = click.option("--at-most", type=duration, help="Wait no longer than this; then the exit code is 4.")
    return option(command)


def wait_for(client: "Client", job_id: str, at_most: timedelta | None, *, as_json: bool) -> "Job":
    """Returns the job once it has ended. When the time is up before, the command ends with what was seen last."""
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json
    from dispatchd.sdk.errors import DeadlineExceeded

    try:
        with _spinner(f"waiting for {job_id}"):
            return client.wait(job_id, timeout=at_most)
    except DeadlineExceeded as exc:
        job = exc.job or client.get(job_id)
        if job.ended:
            return job
        if as_json:
            show_json(job_shape(job))
        raise NotYet(f"{job_id} is still {job.status}: go on waiting with `dispatchd job wait {job_id}`") from exc


@contextmanager
def interruptible(job_id: str) -> Iterator[None]:
    """Says, when the wait is interrupted, that the job is not."""
    try:
        yield
    except KeyboardInterrupt:
        raise NotYet(f"interrupted; {job_id} goes on: `dispatchd job wait {job_id}` waits for it again") from None


def show_end(job: "Job", *, as_json: bool) -> None:
    """Shows an ended job's result, and ends the command with code 1 if it did not succeed."""
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json, show_result
    from dispatchd.sdk.job import JobStatus

    if as_json:
        show_json(job_shape(job))
    elif job.status is JobStatus.SUCCEEDED:
        show_result(job.result)
    if job.status is JobStatus.FAILED:
        raise CommandFailed(
            f"{job.job_id} failed after {counted(job.attempts, 'attempt')}: "
            f"{on_one_line(job.last_error) or 'no error message'}"
        )
    if job.status is JobStatus.CANCELED:
        raise CommandFailed(f"{job.job_id} was canceled")


@contextmanager
def _spinner(words: str) -> Iterator[None]:
    """Shows on a terminal that something is waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(words):
        yield
