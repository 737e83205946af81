"""Starts, signals and ends the recording processes of a run; each writes a ledger and a log of its own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dispatchd.entrypoints.child_process import spawn, stop_within
from faults.ledger import SUFFIX

TESTS = str(Path(__file__).parents[1])
STOP_S = 8.0
LONGEST_S = 600.0


def inherited_path() -> dict[str, str]:
    """The caller's PYTHONPATH, if it is set, so that every process runs the same code as this one."""
    return {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


class RecorderFailed(Exception):
    """A recording process ended otherwise than it should; the message has what it printed."""


class Recorders:
    """The processes by name. They end with this process, however that ends; `folder` gets `NAME.ledger` and `NAME.log`.

    A name can't be used twice, so that every process has a ledger of its own; a worker that is started again keeps its
    worker id, if it should, by its options.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def names(self) -> Sequence[str]:
        """Those that were started and neither stopped nor killed."""
        return tuple(self._processes)

    def start(self, program: str, name: str, *options: str) -> None:
        """Starts `python -m faults.<program>`: submitter, raw_worker or sdk_worker."""
        command = [sys.executable, "-m", f"faults.{program}", "--ledger", str(self.folder / f"{name}{SUFFIX}")]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = spawn(
                [*command, *options],
                death_signal=signal.SIGKILL,
                environ={"PYTHONPATH": os.pathsep.join([TESTS, *inherited_path().values()])},
                stdout=log,
            )

    def freeze(self, name: str) -> None:
        """Stops a process where it is (SIGSTOP)."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Lets it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    async def ended(self, name: str) -> None:
        """Waits until a process has ended by itself. Raises RecorderFailed if it did not end well."""
        process = self._processes.pop(name)
        self._check(name, await asyncio.to_thread(process.wait, LONGEST_S))

    async def stop(self, *names: str) -> None:
        """Ends these with SIGTERM, one after the other. Raises RecorderFailed if one does not end well."""
        for name in names:
            process = self._processes.pop(name)
            self._check(name, await asyncio.to_thread(stop_within, process, [(signal.SIGTERM, STOP_S)]))

    async def kill(self, name: str) -> None:
        """Ends a process with SIGKILL."""
        await asyncio.to_thread(stop_within, self._processes.pop(name), [])

    def kill_all(self) -> None:
        """Ends with SIGKILL what is left."""
        for process in self._processes.values():
            stop_within(process, [])
        self._processes.clear()

    def _check(self, name: str, code: int) -> None:
        if code != 0:
            raise RecorderFailed(f"{name} ended with {code}: {(self.folder / f'{name}.log').read_text()}")
