"""`dispatchd dev`: everything on one machine in the foreground, until Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from dispatchd.entrypoints.dev_log import DevLog
from dispatchd.entrypoints.embedded import EmbeddedServerError
from dispatchd.entrypoints.installation import Installation, InstallationError
from dispatchd.entrypoints.role_process import RoleFailed
from dispatchd.entrypoints.settings import Role, SettingsError

DEFAULT_DATA_DIR = Path(".dispatchd")


def run_dev(
    data_dir: Path,
    environ: Mapping[str, str],
    *,
    worker_gateways: int = 1,
    grpc_port: int = 8080,
    metrics_port: int = 9100,
    out: TextIO | None = None,
) -> int:
    """Runs an installation until SIGINT or SIGTERM, and returns the exit code of the command.

    The first signal stops everything in order, a second one at once. Ports of 0 mean any free ones.
    """
    out = out or sys.stdout
    coloured = out.isatty() and "NO_COLOR" not in environ
    shown = _Out(out)
    log = DevLog(shown.write, coloured)
    installation = Installation(
        data_dir,
        environ,
        worker_gateways=worker_gateways,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        log=log,
    )
    try:
        asyncio.run(_run(installation, log, shown))
    except (InstallationError, SettingsError, EmbeddedServerError, RoleFailed) as exc:
        for line in str(exc).splitlines():
            log("dev", line)
        return 1
    return 0


async def _run(installation: Installation, log: DevLog, out: "_Out") -> None:
    stopping = asyncio.Event()

    def stop_or_kill() -> None:
        if stopping.is_set():
            log("dev", "everything is killed")
            installation.kill()
        else:
            log("dev", "everything stops; once more Ctrl-C kills it")
            stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop_or_kill)
    log("dev", f"starting in {installation.data_dir}")
    try:
        if await _unless(stopping, installation.start(), "start"):
            out.write(_summary(installation))
            await _unless(stopping, installation.supervise(), "supervisor")
    finally:
        await installation.stop()
    log("dev", "everything has stopped")


async def _unless(stopping: asyncio.Event, work: Coroutine[object, object, None], name: str) -> bool:
    """Runs the work, but cancels it when it is time to stop; whether it came to its end."""
    worker = asyncio.create_task(work, name=name)
    stopper = asyncio.create_task(stopping.wait(), name="wait for a signal")
    try:
        await asyncio.wait({worker, stopper}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        worker.cancel()
        stopper.cancel()
        await asyncio.wait({worker, stopper})
    if worker.cancelled():
        return False
    worker.result()
    return True


def _summary(installation: Installation) -> str:
    """Where everything is; no line shows a password."""
    where = urlsplit(installation.database_url).netloc.rpartition("@")[2]
    rows = [("PostgreSQL", where or "as the environment says"), ("Valkey", installation.redis_address)]
    if installation.postgres is not None:
        password_file = installation.postgres.data_dir / "password"
        rows[0] = ("PostgreSQL", f"{installation.postgres.address}, user postgres, its password is in {password_file}")
    for process in installation.processes.values():
        probes = f"{process.probes_url}/metrics"
        rows.append((process.name, probes if process.grpc_port is None else f"{process.grpc_address}, {probes}"))
    listed = "".join(f"  {name:<18} {where}\n" for name, where in rows)
    [control_plane, *_] = installation.of_role(Role.CONTROL_PLANE)
    [gateway, *_] = installation.of_role(Role.WORKER_GATEWAY)
    return (
        f"\n{listed}\n"
        f"  Clients submit jobs to {control_plane.grpc_address}, workers connect to {gateway.grpc_address}.\n"
        f"  Ctrl-C stops everything; the data stays in {installation.data_dir}.\n\n"
    )


class _Out:
    """Standard output, which may go away (`dispatchd dev | head`): that stops the installation in order."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            # Python would try to write what is left once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._stream = None
            signal.raise_signal(signal.SIGTERM)
