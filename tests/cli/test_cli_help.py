"""Help that a first-time user can work from, and the command for one machine."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from command_line import CommandLine
from dispatchd.cli.main import dispatchd as root
from dispatchd.entrypoints import dev

NEEDS_NO_EXAMPLE = {"control-plane", "scheduler", "worker-gateway", "region status"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands(root)], ids=" ".join)
async def test_every_command_has_a_help_with_an_example(path: tuple[str, ...]) -> None:
    result = await CommandLine({})(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: dispatchd {' '.join(path)} ")
    command = dict(commands(root))[path]
    if not isinstance(command, click.Group) and " ".join(path) not in NEEDS_NO_EXAMPLE:
        assert "Example" in result.stdout
        assert f"dispatchd {' '.join(path)}" in result.stdout.split("Example", 1)[1]


async def test_the_list_of_commands_says_what_each_does_without_being_cut() -> None:
    for group in ((), *(path for path, command in commands(root) if isinstance(command, click.Group))):
        result = await CommandLine({})(*group, "--help")
        assert "..." not in result.stdout.split("Commands:")[1]


def test_help_loads_neither_the_client_nor_the_database() -> None:
    program = "import sys; from dispatchd.cli.main import main\n"
    program += "try: main(['--help'])\nexcept SystemExit: pass\n"
    program += "print(sorted({'grpc', 'asyncpg', 'rich', 'aiohttp'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


async def test_dev_hands_on_what_it_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[object] = []

    def run_dev(data_dir: Path, environ: Mapping[str, str], **options: int) -> int:
        told.extend((data_dir, options))
        return 7

    monkeypatch.setattr(dev, "run_dev", run_dev)
    result = await CommandLine({})(
        "dev", "--data-dir", str(tmp_path), "--gateways", "2", "--grpc-port", "0", "--metrics-port", "9200"
    )
    assert result.exit_code == 7
    assert told == [tmp_path, {"worker_gateways": 2, "grpc_port": 0, "metrics_port": 9200}]
