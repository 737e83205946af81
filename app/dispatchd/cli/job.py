"""`dispatchd job`: one job, its executions, its end."""

from datetime import timedelta

import click

from dispatchd.cli.failures import EXIT_CODES
from dispatchd.cli.job_end import at_most_option, interruptible, show_end, wait_for
from dispatchd.cli.parameters import Server, as_json, server_options
from dispatchd.cli.words import age_in_words, duration_in_words, time_in_words

_LONGEST_SHOWN = 2_000


@click.group()
def job() -> None:
    """Look at a job, wait for it, or cancel it."""


@job.command(epilog=f"Example: dispatchd job get job_0199a1b2c3d4e5f60718293a4b5c6d7e\n\n{EXIT_CODES}")
@click.argument("job_id")
@server_options
@as_json
def get(job_id: str, server: Server, as_json: bool) -> None:
    """Show a job as it is now."""
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_fields, show_json

    with open_client(server) as client:
        found = client.get(job_id)
    if as_json:
        show_json(job_shape(found))
        return
    policy = found.retry_policy
    show_fields(
        (
            ("job", found.job_id),
            ("type", found.job_type),
            ("status", found.status.value),
            ("attempts", f"{found.attempts} of {policy.max_attempts}"),
            ("priority", str(found.priority)),
            ("key", found.idempotency_key),
            ("metadata", " ".join(f"{key}={value}" for key, value in sorted(found.metadata.items()))),
            (
                "backoff",
                f"{duration_in_words(policy.initial_backoff)}, at most {duration_in_words(policy.max_backoff)}",
            ),
            ("timeout", "" if found.timeout is None else duration_in_words(found.timeout)),
            ("run at", "" if found.run_at is None else time_in_words(found.run_at)),
            ("created", f"{time_in_words(found.created_at)} ({age_in_words(found.created_at)})"),
            ("updated", f"{time_in_words(found.updated_at)} ({age_in_words(found.updated_at)})"),
            ("last error", found.last_error),
            ("payload", _shown(found.payload)),
            ("result", _shown(found.result or b"")),
        )
    )


@job.command(epilog=f"Example: dispatchd job wait job_0199a1b2c3d4e5f60718293a4b5c6d7e --at-most 1m\n\n{EXIT_CODES}")
@click.argument("job_id")
@at_most_option
@server_options
@as_json
def wait(job_id: str, at_most: timedelta | None, server: Server, as_json: bool) -> None:
    """Wait for a job and print its result."""
    from dispatchd.cli.control_plane_client import open_client

    with interruptible(job_id), open_client(server) as client:
        show_end(wait_for(client, job_id, at_most, as_json=as_json), as_json=as_json)


@job.command(epilog=f"Example: dispatchd job cancel job_0199a1b2c3d4e5f60718293a4b5c6d7e\n\n{EXIT_CODES}")
@click.argument("job_id")
@server_options
@as_json
def cancel(job_id: str, server: Server, as_json: bool) -> None:
    """End a waiting or running job at once.

    A job that has ended already stays as it is.
    """
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json

    with open_client(server) as client:
        ended = client.cancel(job_id)
    if as_json:
        show_json(job_shape(ended))
    else:
        click.echo(f"{ended.job_id} is {ended.status}")


@job.command(epilog=f"Example: dispatchd job executions job_0199a1b2c3d4e5f60718293a4b5c6d7e\n\n{EXIT_CODES}")
@click.argument("job_id")
@server_options
@as_json
def executions(job_id: str, server: Server, as_json: bool) -> None:
    """List the executions of a job.

    The oldest comes first; each shows which worker had it and how that ended.
    """
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import execution_shape
    from dispatchd.cli.show import show_json, show_table

    with open_client(server) as client:
        found = list(client.executions(job_id))
    if as_json:
        show_json({"executions": [execution_shape(execution) for execution in found]})
        return
    show_table(
        ("execution", "attempt#", "status", "end", "worker", "claimed", "took#", "error"),
        (
            (
                execution.execution_id,
                str(execution.attempt),
                execution.status.value,
                "" if execution.end_reason == "unspecified" else execution.end_reason.value,
                execution.worker_id,
                "" if execution.claimed_at is None else time_in_words(execution.claimed_at),
                ""
                if execution.claimed_at is None or execution.finished_at is None
                else duration_in_words(execution.finished_at - execution.claimed_at),
                execution.error_message,
            )
            for execution in found
        ),
        nothing="There are no executions.",
    )


def _shown(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data):,} bytes that are no text; --json shows them)"
    if len(text) > _LONGEST_SHOWN:
        return f"{text[:_LONGEST_SHOWN]}… ({len(data):,} bytes; --json shows them all)"
    return text
