"""Ports for servers of one's own are given to one process at a time, although nobody listens on them yet."""

import socket
import subprocess
import sys

import pytest

from dispatchd.entrypoints.child_process import free_port, port_is_free

ASK_FOR_THIS_ONE = """
from dispatchd.entrypoints import child_process
child_process._PORTS = range({port}, {port} + 1)
print(child_process.free_port())
"""


def test_a_server_can_listen_on_a_port_that_was_given() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)


def test_a_port_that_was_given_to_one_process_is_given_to_no_other() -> None:
    port = free_port()
    program = ASK_FOR_THIS_ONE.format(port=port)
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 1
    assert f"every port from {port} to {port} on 127.0.0.1 is taken" in other.stderr


def test_nobody_answers_on_a_port_that_was_given() -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port()), timeout=5.0)
