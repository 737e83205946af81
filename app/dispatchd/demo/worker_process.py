"""A worker of the demo as a child process that can be killed."""

import asyncio
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dispatchd.entrypoints.child_process import spawn, stop_within
from dispatchd.entrypoints.role_process import PROGRAM

WORKER = "dispatchd.demo.tasks:worker"

_STOP_PATIENCE_S = 10.0


class WorkerProcess:
    """Started at once; it ends with the demo, however that ends. What it writes goes to `log`."""

    def __init__(self, worker_id: str, target: str, environ: Mapping[str, str], log: Path) -> None:
        self.worker_id = worker_id
        with log.open("ab") as output:
            self._process: subprocess.Popen[bytes] = spawn(
                [*PROGRAM, "worker", WORKER, "--gateway", target, "--worker-id", worker_id],
                death_signal=signal.SIGTERM,
                environ=environ,
                stdout=output,
            )

    def freeze(self) -> None:
        """Stops it where it is (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """Ends it at once with SIGKILL."""
        await asyncio.to_thread(stop_within, self._process, [])

    async def stop(self) -> None:
        """Lets it finish what it holds, for ten seconds."""
        await asyncio.to_thread(stop_within, self._process, [(signal.SIGTERM, _STOP_PATIENCE_S)])


def target_of(addresses: list[str]) -> str:
    """A gRPC target for several addresses: the first that can be reached is used."""
    return f"ipv4:{','.join(addresses)}"
