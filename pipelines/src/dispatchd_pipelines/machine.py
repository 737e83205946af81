"""This machine as the place where steps run: its environments, what it lacks, and the processes that are running."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, assert_never

from dispatchd_pipelines.steps import FOLDERS, Needs, Step

_UV = ".venv-tools/uv-*/bin"
"""Where `make setup` puts uv, which a container has on its PATH."""

_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Meant for the runner itself or for an environment of the caller's: the commands have their own."""

_SETUP = "make setup infra-setup pipelines-setup scanners-setup"

_PROBE_SECONDS = 60


class ExecutableMissing(Exception):
    """There is no environment for a step, or no program of this name in it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no `{name}`: `{_SETUP}` makes the environments")


class Machine:
    """Executes the commands of steps in the tree at `root`, with the environments of the tree at `tools`."""

    def __init__(self, root: Path, tools: Path | None = None) -> None:
        self._root = root
        self._tools = tools or root
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def execute(self, step: Step, *, shown: bool) -> tuple[int, str]:
        """Runs a command to its end; returns its exit code and what it printed, which `shown` also shows at once.

        Raises ExecutableMissing.
        """
        if not (self._tools / FOLDERS[step.image]).is_dir():
            # A program of the same name that the PATH has from elsewhere would not be the one that is locked.
            raise ExecutableMissing(FOLDERS[step.image])
        for output in step.outputs:
            (self._root / output).parent.mkdir(parents=True, exist_ok=True)
        try:
            process = subprocess.Popen(
                step.argv,
                cwd=self._root / step.workdir,
                env=self.environment(step),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if shown else subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise ExecutableMissing(step.argv[0]) from None
        self._running.add(process)
        with process:
            try:
                if self._stopped:
                    process.terminate()
                assert process.stdout is not None
                printed = _read(process.stdout, sys.stdout.buffer if shown else None)
                process.wait()
            except BaseException:
                self.stop()
                raise
            finally:
                self._running.discard(process)
        return process.returncode, printed.decode("utf-8", "replace")

    def stop(self) -> None:
        """Tells every command to end, also one that another thread is about to begin."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()

    def environment(self, step: Step) -> dict[str, str]:
        """The variables of a command: the caller's and the step's, with the executables of its role found first."""
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        patterns = (f"{FOLDERS[step.image]}/bin", _UV)
        folders = [str(path) for pattern in patterns for path in sorted(self._tools.glob(pattern))]
        path = os.pathsep.join([*folders, inherited.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, **step.environment}

    def lacks(self, step: Step) -> str:
        """What this machine lacks for a step, in a few words; empty if nothing."""
        if step.history and not (self._root / ".git").exists():
            return "it needs the history in .git"
        if step.history and (self._root / ".git" / "shallow").exists():
            return "it needs the whole history, and this clone is shallow: `git fetch --unshallow`"
        match step.needs:
            case Needs.NOTHING | Needs.NETWORK_DATABASE:
                # Whether a database in the network answers, only the command finds out; it exits with 75 if not.
                met = True
            case Needs.DAEMON:
                met = _answers("docker", "version")
            case Needs.SERVICES:
                met = all(os.environ.get(name) for name in ("DATABASE_URL", "REDIS_ADDRESS"))
            case Needs.PULUMI:
                met = self._built("gitops")
            case Needs.API_SERVER:
                met = self._built("cluster")
            case _ as unreachable:
                assert_never(unreachable)
        return "" if met else f"it needs {step.needs}"

    def _built(self, tier: str) -> bool:
        tools = {"PYTHONPATH": str(self._root / "infra" / "tools")}
        return _answers(sys.executable, "-m", "infra_tools", "--where", "--tier", tier, environment=tools)


def _read(pipe: IO[bytes], shown_on: IO[bytes] | None) -> bytes:
    kept = bytearray()
    while chunk := os.read(pipe.fileno(), 65536):
        kept += chunk
        if shown_on is not None:
            shown_on.write(chunk)
            shown_on.flush()
    return bytes(kept)


def _answers(*command: str, environment: Mapping[str, str] | None = None) -> bool:
    """Whether this command succeeds."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
