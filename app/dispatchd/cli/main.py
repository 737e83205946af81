"""The `dispatchd` command. Subcommands are imported when they are called, so that each starts quickly."""

import importlib
import os
import sys
from typing import Any

import click

from dispatchd.cli.failures import Mistaken

COMMANDS = {
    "dev": ("dispatchd.cli.dev", "dev"),
    "worker": ("dispatchd.cli.worker", "worker"),
    "submit": ("dispatchd.cli.submit", "submit"),
    "job": ("dispatchd.cli.job", "job"),
    "deadletter": ("dispatchd.cli.dead_letters", "deadletter"),
    "workers": ("dispatchd.cli.fleet", "workers"),
    "queues": ("dispatchd.cli.fleet", "queues"),
    "control-plane": ("dispatchd.cli.roles", "control_plane"),
    "scheduler": ("dispatchd.cli.roles", "scheduler"),
    "worker-gateway": ("dispatchd.cli.roles", "worker_gateway"),
    "migrate": ("dispatchd.cli.database", "migrate"),
    "region": ("dispatchd.cli.region", "region"),
    "token": ("dispatchd.cli.token", "token"),
    "certs": ("dispatchd.cli.certs", "certs"),
}
"""Each command: where it is defined, and under which name."""


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; a mistake in the command line is told on one line, like every other one."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as exc:
            path = (exc.ctx or ctx).command_path
            message = exc.format_message()
            stop = "" if message.endswith((".", "?")) else "."
            raise Mistaken(f"{message}{stop} See `{path} --help`.", path) from exc


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="dispatchd")
def dispatchd() -> None:
    """Durable task orchestration: run this reliably, somewhere, now."""
    # Read when gRPC is loaded, which is later. It would write lines of its own, between the lines in JSON of a role or
    # the one line of a command, for each handshake that fails and for headers that are too large.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main(arguments: list[str] | None = None) -> Any:
    """The console script."""
    return dispatchd.main(arguments, prog_name="dispatchd")


if __name__ == "__main__":
    sys.exit(main())
