"""The demo from end to end: real servers, roles and workers on a small copy of this environment, two kills included."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from databases import cloned_database
from dispatchd.demo.__main__ import main
from dispatchd.demo.records import read_sites
from dispatchd.entrypoints.embedded import EmbeddedPostgres

COPIED = ("rich-*", "pygments-*")
PURELIB = Path(sysconfig.get_path("purelib"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site folder with real distributions, of which one file was changed and one is gone."""
    copy = tmp_path / "site"
    copy.mkdir()
    for pattern in COPIED:
        [info] = PURELIB.glob(f"{pattern}.dist-info")
        shutil.copytree(info, copy / info.name)
    for file in read_sites([copy]):
        if not file.path.startswith(".."):
            file.file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PURELIB / file.path, file.file)
    with (copy / "rich" / "console.py").open("a") as tampered:
        tampered.write("# one line more\n")
    (copy / "pygments" / "lexer.py").unlink()
    return copy


def test_a_tampered_file_and_a_missing_one_are_found_while_processes_are_killed(tmp_path: Path, site: Path) -> None:
    listed = read_sites([site])
    outside = [file for file in listed if file.path.startswith("..")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    demo = subprocess.run(
        [sys.executable, "-P", "-m", "dispatchd.demo", "--site", str(site)],
        env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    shown = demo.stdout
    assert (demo.returncode, demo.stderr) == (0, ""), shown + demo.stderr
    assert f"{len(listed) - 2 - len(outside):,} files are as listed" in shown
    assert f"1 differ, {1 + len(outside)} are missing, 0 could not be checked." in shown
    assert "rich/console.py differs: its SHA-256 is " in shown
    assert "pygments/lexer.py is missing" in shown
    assert "SIGKILL for worker-2" in shown
    assert "SIGKILL for worker-gateway" in shown
    assert f"the ledger has {len(listed):,} acknowledged jobs, and all of them have ended." in shown
    assert list(scratch.iterdir()) == []


def test_given_servers_are_used_and_left_running(
    tmp_path: Path, site: Path, postgres: EmbeddedPostgres, redis_address: str
) -> None:
    command = [sys.executable, "-P", "-u", "-m", "dispatchd.demo", "--given-servers", "--site", str(site)]
    with cloned_database(postgres, "template1") as url:
        servers = {"DATABASE_URL": url, "REDIS_ADDRESS": redis_address}
        environ = {**os.environ, **servers, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as demo:
            assert demo.stdout is not None
            begun = any("Two workers are connected." in line for line in demo.stdout)
            leader = _redis(redis_address, "EXISTS dispatchd:scheduler:leader:local")
            demo.send_signal(signal.SIGINT)
            rest = demo.stdout.read()
        assert (begun, leader) == (True, ":1"), rest
        again = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert "The database of DATABASE_URL is not empty: name a new one." in again.stdout


def _redis(address: str, command: str) -> str:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(64).decode().strip()


def test_a_given_server_that_is_not_named_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/nothing")
    monkeypatch.delenv("REDIS_ADDRESS", raising=False)
    refused = CliRunner().invoke(main, ["--given-servers"])
    assert (refused.exit_code, "--given-servers needs REDIS_ADDRESS in the environment." in refused.output) == (2, True)


def test_ctrl_c_stops_everything_and_leaves_nothing_behind(tmp_path: Path, site: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-P", "-u", "-m", "dispatchd.demo", "--site", str(site)]
    environ = {**os.environ, "TMPDIR": str(scratch), "COLUMNS": "200"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        assert demo.stdout is not None
        begun = any("Two workers are connected." in line for line in demo.stdout)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
        assert (begun, demo.wait(30)) == (True, 1), rest
    assert "Traceback" not in rest
    assert list(scratch.iterdir()) == []
