"""README.md is right: its program runs as it stands there, its links lead somewhere, its defaults are the code's."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dispatchd.cli.main import COMMANDS
from dispatchd.entrypoints.child_process import spawn, stop_within
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role, load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), *(ROOT / "docs").rglob("*.md")})
NEEDED = {"DATABASE_URL": "postgresql://db/jobs", "REDIS_ADDRESS": "cache:6379"}
PROGRAM_S = 60


def block(language: str, containing: str) -> str:
    """The one code block in this language that contains these words."""
    [text] = [text for text in re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S) if containing in text]
    return str(text)


@asynccontextmanager
async def default_ports(addresses: Mapping[str, str]) -> AsyncIterator[str]:
    """An HTTP proxy that leads from the addresses in the text to those of the installation; yields its URL.

    gRPC asks it to CONNECT to what the program names, so the program need not be changed for the test.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        host, _, port = addresses[head.split()[1]].partition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_the_program_in_the_text_runs_as_it_stands_there(
    tmp_path: Path, database_url: str, redis_address: str
) -> None:
    program = block("python", "# hello.py")
    assert len(program.splitlines()) <= 20
    (tmp_path / "hello.py").write_text(program)
    [_, *lines] = block("console", "hello:worker").splitlines()
    assert lines == ["$ dispatchd worker hello:worker", "$ python hello.py", "Hello, Ada!"]
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    given = environ | {"DATABASE_URL": database_url, "REDIS_ADDRESS": redis_address}
    async with Installation(tmp_path / "data", given) as installation:
        [control_plane] = installation.of_role(Role.CONTROL_PLANE)
        [gateway] = installation.of_role(Role.WORKER_GATEWAY)
        served = {"localhost:8080": control_plane.grpc_address, "localhost:8081": gateway.grpc_address}
        async with default_ports(served) as proxy:
            environ |= {"grpc_proxy": proxy, "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', '')}"}
            with (tmp_path / "worker.log").open("wb") as log:
                worker = spawn(
                    [Path(sys.executable).with_name("dispatchd"), *lines[0].split()[2:]],
                    death_signal=signal.SIGTERM,
                    environ=environ,
                    stdout=log,
                    cwd=tmp_path,
                )
            try:
                client = await asyncio.create_subprocess_exec(
                    *lines[1].split()[1:], stdout=subprocess.PIPE, env=environ, cwd=tmp_path
                )
                output, _ = await asyncio.wait_for(client.communicate(), PROGRAM_S)
            finally:
                await asyncio.to_thread(stop_within, worker, [(signal.SIGTERM, 10.0)])
    assert output.decode().splitlines() == lines[2:], (tmp_path / "worker.log").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_defaults_in_the_table_are_those_of_the_settings() -> None:
    settings = load_settings(Role.CONTROL_PLANE, NEEDED)
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \| [^|]+ \|$", README, re.M))
    hours = {"RETENTION": settings.retention, "DEAD_LETTER_RETENTION": settings.dead_letter_retention}
    assert table == {
        "DATABASE_URL": "must be set",
        "REDIS_ADDRESS": "must be set",
        "REDIS_PASSWORD": "none",
        "GRPC_PORT": str(settings.grpc_port),
        "METRICS_PORT": "see above",
        "LEASE_DURATION": f"{settings.lease_duration.seconds}s",
        "SHUTDOWN_TIMEOUT_SECONDS": str(settings.shutdown_timeout.seconds),
        **{name: f"{kept.total_seconds() / 3600:g}h" for name, kept in hours.items()},
        "LOG_LEVEL": settings.log_level,
    }
    assert settings.redis.password is None


def test_the_ports_in_the_table_are_those_of_the_roles() -> None:
    for role in Role:
        settings = load_settings(role, NEEDED)
        grpc_port = "" if role is Role.SCHEDULER else f"{settings.grpc_port} "
        assert re.search(rf"^\| `{role}` \| [^|]+ \| {grpc_port}\| {settings.metrics_port} \|$", README, re.M), role


def test_the_commands_in_the_text_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)`|^\$ make ([a-z]+)$", README, re.M)) >= {("", "demo"), ("", "test")}
    named = {verb for pair in re.findall(r"`make ([a-z]+)`|^\$ make ([a-z]+)$", README, re.M) for verb in pair if verb}
    assert named <= verbs
    assert set(re.findall(r"(?:`|^\$ )dispatchd ([a-z-]+)", README, re.M)) <= {*COMMANDS, "--help"}
