"""The embedded servers are real, keep their data over a crash, and never outlive the process that started them."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import asyncpg
import pytest

from dispatchd.entrypoints import embedded_server
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey

QUICK = {"fsync": "off"}


async def test_postgres_keeps_committed_rows_over_a_crash_and_a_restart(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", settings=QUICK) as postgres:
        await _execute(postgres, "create table kept (word text)", "insert into kept values ('yes')")
        postgres.kill()
        postgres.start()
        assert await _execute(postgres, "select word from kept") == "yes"
        url = postgres.url
        postgres.restart()
        assert postgres.url == url
        assert await _execute(postgres, "select word from kept") == "yes"


def test_one_who_looks_after_a_server_starts_no_second_one_in_the_middle_of_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[subprocess.Popen[bytes]] = []
    is_over = threading.Event()
    valkey = EmbeddedValkey(tmp_path / "valkey")

    def look_after() -> None:
        while not is_over.is_set():
            if valkey.has_ended:
                valkey.start()

    def spawn(log: BinaryIO) -> "subprocess.Popen[bytes]":
        spawned.append(EmbeddedValkey._spawn(valkey, log))
        return spawned[-1]

    monkeypatch.setattr(valkey, "_spawn", spawn)
    with ThreadPoolExecutor(1) as threads, valkey:
        looking = threads.submit(look_after)
        for _ in range(10):
            valkey.restart()
        is_over.set()
        looking.result()
    assert [process.returncode for process in spawned].count(None) == 0


async def test_postgres_lets_nobody_in_without_its_password(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", settings=QUICK) as postgres:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://postgres:guess@{postgres.address}/postgres")
        assert (tmp_path / "postgres" / "password").stat().st_mode & 0o077 == 0


def test_a_server_that_can_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="unrecognized configuration parameter"):
        EmbeddedPostgres(tmp_path / "postgres", settings={"no_such_setting": "1"}).start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match="Address already in use"):
            EmbeddedValkey(tmp_path / "valkey", port).start()


def test_a_cluster_of_another_version_is_refused(tmp_path: Path) -> None:
    cluster = tmp_path / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedServerError, match="was made by PostgreSQL 16 and this is 18"):
        EmbeddedPostgres(tmp_path / "postgres").start()


def test_valkey_forgets_or_remembers_as_told(tmp_path: Path) -> None:
    for persistent, answer in ((False, b"$-1"), (True, b"$3")):
        with EmbeddedValkey(tmp_path / f"valkey-{persistent}", password="hush", persistent=persistent) as valkey:
            assert _ask(valkey, "GET word").startswith(b"-NOAUTH")
            assert _ask(valkey, "AUTH hush", "SET word yes").startswith(b"+OK")
            valkey.restart()
            assert _ask(valkey, "AUTH hush", "GET word").startswith(answer)


def test_without_the_wheels_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "find_spec", lambda _name: None)
    for server in (EmbeddedPostgres, EmbeddedValkey):
        with pytest.raises(EmbeddedServerError, match=r"pip install 'dispatchd\[dev\]'"):
            server(tmp_path)


def test_servers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    program = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
postgres = EmbeddedPostgres(Path(sys.argv[1]) / "postgres", settings={"fsync": "off"}).start()
valkey = EmbeddedValkey(Path(sys.argv[1]) / "valkey").start()
print(postgres.pid, valkey.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        servers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
        for server in servers:
            # A process descriptor becomes readable when the process ends.
            assert select.select([server], [], [], 20.0)[0]
            os.close(server)


async def _execute(postgres: EmbeddedPostgres, *statements: str) -> object:
    connection = await asyncpg.connect(postgres.url)
    try:
        value: object = None
        for statement in statements:
            value = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


def _ask(valkey: EmbeddedValkey, *commands: str) -> bytes:
    """The answer to the last of these commands."""
    host, _, port = valkey.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as connection, connection.makefile("rb") as answers:
        answer = b""
        for command in commands:
            connection.sendall(f"{command}\r\n".encode())
            answer = answers.readline()
        return answer
