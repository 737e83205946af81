"""`dispatchd submit`."""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dispatchd.cli.failures import EXIT_CODES
from dispatchd.cli.job_end import at_most_option, interruptible, show_end, wait_for
from dispatchd.cli.parameters import Server, as_json, duration, label, server_options, time

if TYPE_CHECKING:
    from typing import IO

    from dispatchd.sdk.client.submission import SubmitOptions

MOST_PAYLOAD_BYTES = 2 * 1024 * 1024
EXAMPLES = """\b
Examples:
  dispatchd submit report.render '{"year": 2025}' --wait
  dispatchd submit email.send @mail.json --key mail-17 --metadata customer=17
  pg_dump shop | gzip | dispatchd submit backup.store - --timeout 10m
"""


@click.command(epilog=f"{EXAMPLES}\n{EXIT_CODES}")
@click.argument("job_type")
@click.argument("payload", default="{}", metavar="[PAYLOAD|-|@FILE]")
@click.option("--wait", "waits", is_flag=True, help="Wait until the job has ended, and print its result.")
@at_most_option
@click.option("--priority", type=click.IntRange(0, 2**31 - 1), default=0, help="Higher runs first.  [default: 0]")
@click.option("--key", metavar="KEY", help="Idempotency key: equal keys make one job.")
@click.option(
    "--metadata", type=label, multiple=True, metavar="KEY=VALUE", help="A label for the worker; may be repeated."
)
@click.option("--max-attempts", type=click.IntRange(1, 100), help="Attempts in all.  [default: 3]")
@click.option("--run-at", type=time, help="Not before this time: 2027-01-31T08:00:00Z, or +10m from now on.")
@click.option("--timeout", type=duration, help="How long one attempt may take, such as 30s or 1m30s.")
@server_options
@as_json
def submit(
    job_type: str,
    payload: str,
    waits: bool,
    at_most: timedelta | None,
    priority: int,
    key: str | None,
    metadata: tuple[tuple[str, str], ...],
    max_attempts: int | None,
    run_at: datetime | None,
    timeout: timedelta | None,
    server: Server,
    as_json: bool,
) -> None:
    """Submit a job and print its id.

    The payload is JSON text, a file (@FILE) or standard input (-); without it the job gets {}. What is read from a
    file or standard input is sent byte for byte, whatever it is. With --wait the result is printed in place of the id,
    as text if it is UTF-8.
    """
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import job_shape
    from dispatchd.cli.show import show_json

    if at_most is not None and not waits:
        raise click.UsageError("--at-most bounds --wait: give both, or neither")
    data = read_payload(payload)
    options: SubmitOptions = {
        "priority": priority,
        "idempotency_key": key,
        "metadata": dict(metadata),
        "max_attempts": max_attempts,
        "run_at": run_at,
        "timeout": timeout,
    }
    with open_client(server) as client:
        job = client.submit(job_type, data, **options)
        if waits:
            with interruptible(job.job_id):
                click.echo(f"{job.job_id} is stored", err=True)
                show_end(wait_for(client, job.job_id, at_most, as_json=as_json), as_json=as_json)
        elif as_json:
            show_json(job_shape(job))
        else:
            click.echo(job.job_id)


def read_payload(argument: str) -> bytes:
    """The bytes to send. Raises click.BadParameter if they can't be read, are none or too many, or no JSON."""
    if argument == "-":
        data = _read(sys.stdin.buffer, "standard input")
    elif argument.startswith("@"):
        try:
            with Path(argument[1:]).open("rb") as file:
                data = _read(file, argument[1:])
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "this is no file name"
            raise _bad_payload(f"{argument[1:]!r} can't be read ({reason})") from exc
    else:
        try:
            json.loads(argument)
        except ValueError as exc:
            raise _bad_payload(
                f"this is no JSON ({exc}); quote it for the shell, as in '{{\"year\": 2025}}', or send any bytes "
                "with - or @FILE"
            ) from exc
        data = argument.encode()
    return data


def _read(file: "IO[bytes]", name: str) -> bytes:
    data = file.read(MOST_PAYLOAD_BYTES + 1)
    if not data:
        raise _bad_payload(f"{name} is empty; a payload has at least one byte")
    if len(data) > MOST_PAYLOAD_BYTES:
        raise _bad_payload(f"{name} is larger than 2 MiB; store it elsewhere and send a reference")
    return data


def _bad_payload(problem: str) -> click.BadParameter:
    return click.BadParameter(problem, param_hint="PAYLOAD")
