"""One role of an installation as a child process, which can be started, signalled, stopped and started again."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final, cast

import aiohttp

from dispatchd.entrypoints.child_process import spawn
from dispatchd.entrypoints.settings import Role

Log = Callable[[str, str], None]
"""Takes the name of a process and one line that it wrote."""

HOST = "127.0.0.1"
PROGRAM: Final = (sys.executable, "-P", "-m", "dispatchd.cli.main")

_READY_POLL_S = 0.05
_READY_ANSWER_S = 3.0
_LAST_LINES = 20
_LAST_WORDS_S = 1.0
_LONGEST_LINE_BYTES = 256 * 1024


class RoleFailed(Exception):
    """A role ended, or did not get ready in time; the message ends with the last lines it wrote."""


class RoleProcess:
    """A role that can be started again after it has ended; its addresses stay the same.

    All methods belong to the event loop that started it.
    """

    def __init__(
        self,
        role: Role,
        name: str,
        environ: Mapping[str, str],
        grpc_port: int | None,
        metrics_port: int,
        log: Log,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.role = role
        self.name = name
        self.grpc_port = grpc_port
        self.metrics_port = metrics_port
        self._environ = dict(environ)
        self._log = log
        self._program = program
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self._started = asyncio.Event()

    @property
    def grpc_address(self) -> str:
        """`host:port`; the scheduler has none."""
        if self.grpc_port is None:
            raise ValueError(f"The role {self.role} has no gRPC port.")
        return f"{HOST}:{self.grpc_port}"

    @property
    def probes_url(self) -> str:
        """Where `/livez`, `/readyz` and `/metrics` are, without a slash at the end."""
        return f"http://{HOST}:{self.metrics_port}"

    @property
    def environ(self) -> dict[str, str]:
        """The whole environment of the process."""
        environ = self._environ | {
            "METRICS_PORT": str(self.metrics_port),
            # Several roles share one host name here.
            "INSTANCE_ID": f"{self.name}-{secrets.token_hex(3)}",
        }
        if self.grpc_port is not None:
            environ["GRPC_PORT"] = str(self.grpc_port)
        return environ

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended.is_set()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RoleFailed(f"{self.name} was never started.")
        return self._process.pid

    async def start(self) -> None:
        """Starts the process; does nothing if it runs. It is ready some time later: see `wait_ready`."""
        if self.running:
            return
        loop = asyncio.get_running_loop()
        self._ended, self._silent = asyncio.Event(), asyncio.Event()
        self._last_lines.clear()
        process = spawn(
            [*self._program, self.role.value],
            death_signal=signal.SIGTERM,
            environ=self.environ,
            stdout=subprocess.PIPE,
        )
        self._process = process
        silent = self._silent
        await loop.connect_read_pipe(lambda: _Lines(self._take_line, silent), cast("IO[bytes]", process.stdout))
        # A process descriptor becomes readable when the process ends.
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, self._reap, loop, process, descriptor)
        self._started.set()

    async def wait_started(self) -> None:
        """Returns once the process runs, for those who wait until a supervisor has started it again."""
        await self._started.wait()

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Returns once `/readyz` answers 200.

        Raises:
            RoleFailed: if the process ends before that, or the time is over.
        """
        answer = "no answer"
        try:
            async with asyncio.timeout(timeout_s), aiohttp.ClientSession() as http:
                while self.running:
                    ready, answer = await self._ask_ready(http)
                    if ready:
                        return
                    await _within(_READY_POLL_S, self._ended)
        except TimeoutError:
            raise self._failure(f"was not ready after {timeout_s:g} s ({answer})") from None
        await _within(_LAST_WORDS_S, self._silent)
        raise self._failure(f"ended before it was ready ({self.describe_end()})")

    async def wait_ended(self) -> int:
        """Returns the exit code once the process has ended; minus the signal's number if a signal ended it."""
        await self._ended.wait()
        return self._exit_code()

    def send_signal(self, number: signal.Signals) -> None:
        """Does nothing if the process has ended."""
        if self.running and self._process is not None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Ends the process at once with SIGKILL."""
        self.send_signal(signal.SIGKILL)
        if self._process is not None:
            await self._ended.wait()

    async def stop(self, patience_s: float) -> int:
        """Asks the process to end in order (SIGTERM) and kills it when the time is over; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        if self.running:
            await _within(patience_s, self._ended)
        if self.running:
            self._log(self.name, f"did not end within {patience_s:g} s and is killed")
            await self.kill()
        if self._process is not None:
            await _within(_LAST_WORDS_S, self._silent)
        return self._exit_code()

    def describe_end(self) -> str:
        """How the process ended, in words."""
        code = self._exit_code()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _exit_code(self) -> int:
        return 0 if self._process is None else self._process.wait()

    async def _ask_ready(self, http: aiohttp.ClientSession) -> tuple[bool, str]:
        timeout = aiohttp.ClientTimeout(total=_READY_ANSWER_S)
        try:
            async with http.get(f"{self.probes_url}/readyz", timeout=timeout) as answer:
                return answer.status == 200, (await answer.text()).strip()
        except (aiohttp.ClientError, TimeoutError) as exc:
            return False, str(exc) or "no answer"

    def _take_line(self, line: str) -> None:
        self._last_lines.append(line)
        self._log(self.name, line)

    def _reap(self, loop: asyncio.AbstractEventLoop, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        process.wait()
        self._started.clear()
        self._ended.set()

    def _failure(self, what: str) -> RoleFailed:
        return RoleFailed("\n".join([f"{self.name} {what}:", *self._last_lines]))


class _Lines(asyncio.Protocol):
    """Cuts what a process writes into lines; a line longer than 256 KiB comes in pieces."""

    def __init__(self, take: Callable[[str], None], silent: asyncio.Event) -> None:
        self._take = take
        self._silent = silent
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._take(line.decode("utf-8", "replace"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._take(self._rest.decode("utf-8", "replace"))
        self._silent.set()


async def _within(limit_s: float, event: asyncio.Event) -> None:
    """Waits for the event, but no longer than the limit."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
