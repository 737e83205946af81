"""How commands fail: a line on standard error that says what to change, and an exit code that says what kind it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

EXIT_CODES = """\b
Exit codes:
  0  it worked
  1  it did not: the job failed or was canceled, or the server refused
  2  the command or its input has a mistake
  3  the server or the database can't be reached or is overloaded
  4  the time is up and it goes on: run the same command again
"""
"""For the help texts."""


class CommandFailed(click.ClickException):
    """Ends the command with `exit_code` after writing `dispatchd …: message` to standard error.

    Without a `command` it is the one that runs.
    """

    exit_code = 1

    def __init__(self, message: str, command: str | None = None) -> None:
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self._command = command or (context.command_path if context is not None else "dispatchd")

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"{self._command}: {self.message}", file=file, err=file is None)


class Mistaken(CommandFailed):
    """The input has a mistake; click ends with the same code for mistakes in the command line."""

    exit_code = 2


class OutOfReach(CommandFailed):
    """A server can't be reached, or not in time, or has too much to do; the same command may work later."""

    exit_code = 3


class NotYet(CommandFailed):
    """The time is up before the end, and the same command goes on."""

    exit_code = 4


@contextmanager
def database_failures() -> Iterator[None]:
    """Ends a command that works on the database with a sentence in place of a stack trace."""
    from dispatchd.adapters.postgres.migrate import SchemaMismatch
    from dispatchd.application.ports import BatchRejected, DatabaseMisconfigured
    from dispatchd.domain.errors import Unavailable
    from dispatchd.entrypoints.settings import SettingsError

    try:
        yield
    except (SettingsError, SchemaMismatch, DatabaseMisconfigured) as exc:
        raise Mistaken(str(exc)) from exc
    except Unavailable as exc:
        raise OutOfReach(f"{exc}: check that the server in DATABASE_URL runs, and its user and password") from exc
    except BatchRejected as exc:
        hint = "the role in DATABASE_URL lacks a privilege" if exc.sqlstate == "42501" else "see the server's log"
        raise CommandFailed(f"{exc}: {hint}") from exc
