"""A disk of a few hundred megabytes of its own, so that it can be filled up without harm to anybody else."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

SIZE_MB = 768
_CHUNK = bytes(1024 * 1024)


class SmallDisk:
    """A tmpfs on a folder, if this process may mount one; otherwise a plain folder that can't be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_small = False
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0755", "dispatchd-faults", str(self.folder)]
        try:
            self.is_small = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            self.is_small = False
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_small:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Takes all the space that is left. Blocks."""
        assert self.is_small, "only a disk of our own is filled"
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(_CHUNK)
            except OSError:
                return

    def free(self) -> None:
        """Gives the space back."""
        if self._ballast.exists():
            os.unlink(self._ballast)
