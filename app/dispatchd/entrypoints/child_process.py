"""Child processes that end with their parent, and stop within a bounded time."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LAUNCHER = Path(__file__).with_name("launch.py")

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
    """A TCP port that nobody listens on now; somebody else may take it before it is used."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port
