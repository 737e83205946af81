"""The control-plane's client for one command, with its errors as sentences and exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from dispatchd.cli.failures import CommandFailed, Mistaken, OutOfReach

if TYPE_CHECKING:
    from dispatchd.sdk.client.client import Client
    from dispatchd.sdk.errors import DispatchdError


@contextmanager
def open_client(server: str, call_timeout: timedelta) -> "Iterator[Client]":
    """Lends a client. What it raises ends the command."""
    from dispatchd.sdk.client.client import Client
    from dispatchd.sdk.errors import DispatchdError

    try:
        with Client(server, call_timeout=call_timeout) as client:
            yield client
    except DispatchdError as exc:
        raise failure_of(exc, server) from exc


def failure_of(error: "DispatchdError", server: str) -> CommandFailed:
    """What an error of the client means for the command."""
    from dispatchd.sdk import errors

    match error:
        case errors.InvalidRequest():
            return Mistaken(error.message)
        case errors.Unavailable() | errors.DeadlineExceeded():
            return OutOfReach(
                f"no answer from {server} ({error.message}): check that a control-plane runs there, or name another "
                "one with --server or DISPATCHD_ADDRESS"
            )
        case errors.Overloaded():
            return OutOfReach(error.message)
        case errors.NotSupported():
            return CommandFailed(f"{server} is no control-plane, or an older one that can't do this")
        case _:
            return CommandFailed(error.message)
