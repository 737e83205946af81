"""`dispatchd deadletter`: jobs that have failed for good, and another try for them."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click

from dispatchd.cli.failures import EXIT_CODES, CommandFailed, OutOfReach
from dispatchd.cli.parameters import Server, as_json, server_options
from dispatchd.cli.words import age_in_words, counted

if TYPE_CHECKING:
    from dispatchd.sdk.errors import DispatchdError
    from dispatchd.sdk.job import Job


@click.group()
def deadletter() -> None:
    """List and redrive failed jobs."""


_job_type = click.option("--job-type", metavar="JOB_TYPE", help="Only jobs of this type.")


@deadletter.command("list", epilog=f"Example: dispatchd deadletter list --job-type report.render\n\n{EXIT_CODES}")
@_job_type
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="List no more than this many."
)
@server_options
@as_json
def list_dead_letters(job_type: str | None, limit: int, server: Server, as_json: bool) -> None:
    """List dead letters, the last to fail first."""
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json, show_table

    with open_client(server) as client:
        found = list(islice(client.dead_letters(job_type, page_size=min(limit + 1, 1_000)), limit + 1))
    jobs, has_more = found[:limit], len(found) > limit
    if as_json:
        show_json({"jobs": [job_shape(job) for job in jobs], "has_more": has_more})
        return
    show_table(
        ("job", "type", "attempts#", "failed", "last error"),
        ((job.job_id, job.job_type, str(job.attempts), age_in_words(job.updated_at), job.last_error) for job in jobs),
        nothing="There are no dead letters.",
    )
    if has_more:
        click.echo(f"There are more than {limit:,}; raise --limit to see them.", err=True)


@deadletter.command(epilog=f"Example: dispatchd deadletter redrive --all --job-type report.render\n\n{EXIT_CODES}")
@click.argument("job_ids", nargs=-1, metavar="[JOB_ID]...")
@click.option("--all", "takes_all", is_flag=True, help="Every dead letter there is when the command starts.")
@_job_type
@server_options
@as_json
def redrive(
    job_ids: tuple[str, ...],
    takes_all: bool,
    job_type: str | None,
    server: Server,
    as_json: bool,
) -> None:
    """Give dead letters another try.

    They get a new budget of attempts and are queued. Either name the jobs, or take them --all, with --job-type all of
    one type. The exit code is 1 if any of them could not be redriven.
    """
    from dispatchd.cli.control_plane_client import open_client

    if takes_all == bool(job_ids) or (job_type is not None and not takes_all):
        raise click.UsageError("name one or more jobs, or give --all, which --job-type can narrow")
    with open_client(server) as client:
        ids = list(dict.fromkeys(job_ids)) if job_ids else [job.job_id for job in client.dead_letters(job_type)]
        answers = client.redrive(ids) if ids else []
    _show_redriven(ids, answers, as_json=as_json)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    if refused:
        raise _failure(refused)(f"{counted(len(refused), 'job')} of {len(ids):,} could not be redriven")


def _show_redriven(ids: Sequence[str], answers: "Sequence[Job | DispatchdError]", *, as_json: bool) -> None:
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json, show_table

    results = list(zip(ids, answers, strict=True))
    if as_json:
        show_json(
            {
                "results": [
                    {
                        "job_id": job_id,
                        "job": None if isinstance(answer, Exception) else job_shape(answer),
                        "error": str(answer) if isinstance(answer, Exception) else None,
                    }
                    for job_id, answer in results
                ]
            }
        )
        return
    show_table(
        ("job", "answer"),
        ((job_id, str(answer) if isinstance(answer, Exception) else answer.status.value) for job_id, answer in results),
        nothing="There are no dead letters.",
    )


def _failure(refused: "Iterable[DispatchdError]") -> type[CommandFailed]:
    from dispatchd.sdk.errors import DeadlineExceeded, Overloaded, Unavailable

    cut_short = any(isinstance(error, (Unavailable, Overloaded, DeadlineExceeded)) for error in refused)
    return OutOfReach if cut_short else CommandFailed
