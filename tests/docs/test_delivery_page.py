"""The commands of dispatchd on docs/delivery.md exist, with the options that stand there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from dispatchd.cli.main import dispatchd

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text("utf-8")
CALLS = sorted(set(re.findall(r"(?:`|-- )dispatchd ([^`>\n]+)", PAGE)))


def test_both_regions_are_asked_and_a_drain_can_be_taken_back() -> None:
    assert {"region status --json ", "region drain --undo --expect-epoch 1"} <= set(CALLS)


@pytest.mark.parametrize("call", CALLS)
def test_every_command_is_taken_as_it_stands_there(call: str) -> None:
    command: click.Command = dispatchd
    words = shlex.split(call)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(click.Context(command), words)
        assert found is not None, name
        command = found
    command.make_context(command.name, words)
