"""A Docker daemon, spoken to by its client: what the check of the images needs of it."""

import gzip
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""As the pods of gitops/ run: the root can't be written to, and no right is left."""


class DockerFailed(Exception):
    """A command of the client ended with an error; the text is the command and what it said last."""


class Docker:
    """The client on the PATH. Containers and builds share the network of this machine, so that no bridge is needed."""

    def __init__(self, client: str = "docker") -> None:
        self._client = client

    def version(self) -> str | None:
        """The version of the daemon, or None where none answers."""
        try:
            return self.run("version", "--format", "{{.Server.Version}}").strip()
        except (DockerFailed, FileNotFoundError):
            return None

    def build(self, folder: Path, tag: str, arguments: Mapping[str, str]) -> None:
        """Builds the Dockerfile of a folder."""
        options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        self.run("build", "--quiet", "--network", "host", *options, "--tag", tag, str(folder))

    def fetch(self, image: str) -> None:
        """Pulls an image unless it is here: of a base BuildKit keeps the layers, and no image to look at."""
        try:
            self.inspect(image)
        except DockerFailed:
            self.run("pull", "--quiet", image)

    def start(self, image: str, name: str, environment: Mapping[str, str]) -> None:
        """Starts a hardened container."""
        self.run("run", "--detach", "--name", name, *self._options(environment), image)

    def call(self, image: str, environment: Mapping[str, str], *command: str) -> str:
        """Runs a hardened container to its end and returns what it printed."""
        return self.run("run", "--rm", *self._options(environment), image, *command)

    def remove(self, name: str) -> None:
        """Ends a container and forgets it; nothing happens if there is none."""
        with suppress(DockerFailed):
            self.run("rm", "--force", name)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the daemon knows of an image or a container."""
        [found] = json.loads(self.run("inspect", name))
        return dict(found)

    def run(self, *arguments: str) -> str:
        """Runs one command of the client and returns its standard output."""
        done = subprocess.run(
            [self._client, *arguments],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            raise DockerFailed(f"docker {' '.join(arguments[:2])}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def compressed_bytes_above(self, image: str, base: str) -> int:
        """How many bytes the layers of an image have, compressed by gzip, that its base does not have."""
        below = set(self.inspect(base)["RootFS"]["Layers"])
        own = [layer not in below for layer in self.inspect(image)["RootFS"]["Layers"]]
        with tempfile.TemporaryDirectory(prefix="dispatchd-image-") as folder:
            archive = Path(folder) / "image.tar"
            self.run("save", "--output", str(archive), image)
            with tarfile.open(archive) as saved:
                [manifest] = json.loads(_read(saved, "manifest.json"))
                layers = zip(manifest["Layers"], own, strict=True)
                return sum(len(gzip.compress(_read(saved, layer), 6)) for layer, is_own in layers if is_own)

    @staticmethod
    def _options(environment: Mapping[str, str]) -> list[str]:
        variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        return ["--network", "host", *HARDENED, *variables]


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise DockerFailed(f"docker save: {name} is no file")
    return member.read()
