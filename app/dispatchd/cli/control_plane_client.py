"""The control-plane's client for one command, with its errors as sentences and exit codes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from dispatchd.cli.access import refusal_of
from dispatchd.cli.failures import CommandFailed, Mistaken, OutOfReach
from dispatchd.cli.parameters import Server

if TYPE_CHECKING:
    from dispatchd.sdk.client.client import Client
    from dispatchd.sdk.errors import DispatchdError


@contextmanager
def open_client(server: Server) -> "Iterator[Client]":
    """Lends a client. What it raises ends the command, and what it warns of is written to standard error."""
    from dispatchd.sdk.client.client import Client
    from dispatchd.sdk.errors import DispatchdError

    try:
        with (
            _told_warnings(),
            Client(
                server.address, call_timeout=server.call_timeout, token=server.access.token, tls=server.access.tls
            ) as client,
        ):
            yield client
    except DispatchdError as exc:
        raise failure_of(exc, server) from exc


@contextmanager
def _told_warnings() -> Iterator[None]:
    """Writes what the SDK warns of as lines of the command, which has no other logging."""
    command = click.get_current_context().command_path

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"{command}: {record.getMessage()}", err=True)

    lines = Lines(logging.WARNING)
    sdk = logging.getLogger("dispatchd")
    sdk.addHandler(lines)
    try:
        yield
    finally:
        sdk.removeHandler(lines)


def failure_of(error: "DispatchdError", server: Server) -> CommandFailed:
    """What an error of the client means for the command."""
    from dispatchd.sdk import errors

    refusal = refusal_of(error, server.address, server.access)
    if refusal is not None:
        return refusal
    match error:
        case errors.InvalidRequest():
            return Mistaken(error.message)
        case errors.Unavailable() | errors.DeadlineExceeded():
            encryption = (
                "give --ca-file or --tls if it encrypts"
                if server.access.tls is None
                else "check that it encrypts, with a certificate for this name that fits --ca-file, and --cert-file"
            )
            return OutOfReach(
                f"no answer from {server.address} ({error.message}): check that a control-plane runs there, or name "
                f"another one with --server or DISPATCHD_ADDRESS; {encryption}"
            )
        case errors.Overloaded():
            return OutOfReach(error.message)
        case errors.NotSupported():
            return CommandFailed(f"{server.address} is no control-plane, or an older one that can't do this")
        case _:
            return CommandFailed(error.message)
