"""Child processes that end with their parent, and stop within a bounded time."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).with_name("launch.py")
_PORTS = range(20_000, 32_768)
_MOST_CLAIMS = 64
_ports_given: set[int] = set()
_claims: deque[int] = deque()

# The kernel sends the death signal when the *thread* ends that started the child, and this one never does.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True, slots=True)
class User:
    """Another user to run a child as; `keep_reach` lets it enter folders that only root may enter."""

    uid: int
    gid: int
    keep_reach: bool


def spawn(
    arguments: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    user: User | None = None,
    environ: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.STDOUT,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Starts a program by its absolute path, in a session of its own, so that Ctrl-C reaches only the parent.

    The child gets `death_signal` from the kernel (Linux) when this process ends, however it ends. Its process id is
    that of the program itself. May be called from any thread.
    """
    options = {
        "parent": os.getpid(),
        "death_signal": int(death_signal),
        "uid": None if user is None else user.uid,
        "gid": None if user is None else user.gid,
        "keep_reach": user is not None and user.keep_reach,
    }
    command = [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(options), *map(str, arguments)]
    return _SPAWNER.submit(
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=None if environ is None else dict(environ),
        cwd=cwd,
    ).result()


def stop_within(process: "subprocess.Popen[bytes]", signals: Sequence[tuple[signal.Signals, float]]) -> int:
    """Sends one signal after the other, each with its time in seconds to take effect, then SIGKILL; the exit code."""
    for number, patience_s in signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
    return process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on, and that no other process gets from here for now.

    It is below the range from which the kernel takes ports for outgoing connections, so that none of those takes it,
    and this process never gets the same one twice. Other processes don't get it until this one has asked for 64 more.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _ports_given and (claim := _claim(port, host)) is not None:
            _ports_given.add(port)
            _claims.append(claim)
            if len(_claims) > _MOST_CLAIMS:
                os.close(_claims.popleft())
            return port
    raise OSError(f"every port from {_PORTS.start} to {_PORTS.stop - 1} on {host} is taken")


def _claim(port: int, host: str) -> int | None:
    """The descriptor of a socket that is bound to the port, or None if another one is.

    It was bound without SO_REUSEADDR, which fails beside any other, and allows that only afterwards: a server, which
    asks for it, can bind and listen beside this socket (Linux), another claim can't.
    """
    with _tcp_socket(host) as claim:
        try:
            claim.bind((host, port))
        except OSError:
            return None
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return claim.detach()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this TCP port now."""
    with _tcp_socket(host) as listener:
        # As servers do: connections of an earlier server that are still closing don't count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError:
            return False
    return True


def _tcp_socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
