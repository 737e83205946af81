"""Builds the three images under the names by which compose.yaml and `make kind-up` look for them.

`python -m images.build`, with `tests` on the path, or `make images`. `IMAGE_BASE` names another base than the one of
the Dockerfile: where no registry can be reached, one made by debootstrap. The exit code is 0 if all three stand, 1 if
not, and 75 (EX_TEMPFAIL) where no Docker daemon answers.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from images.docker import Docker, DockerFailed

REPOSITORY = Path(__file__).parents[2]
REGISTRY = yaml.safe_load((REPOSITORY / "infra" / "common.yaml").read_text(encoding="utf-8"))["registry"]
ROLES = ("control-plane", "scheduler", "worker-gateway")


def main() -> int:
    docker = Docker()
    if docker.version() is None:
        tell("images: not run: no Docker daemon answers; start one, or let `docker version` say what is wrong")
        return os.EX_TEMPFAIL
    tell(f"three images on {chosen_base()}; the first takes a minute or two")
    try:
        labels = labels_of_the_commit()
        for role in ROLES:
            build(docker, role, chosen_base(), labels)
    except DockerFailed as failed:
        tell(f"images: failed: {failed}")
        return 1
    return 0


def build(docker: Docker, role: str, base: str, labels: Mapping[str, str]) -> None:
    """Builds the image of a role on this base. Raises DockerFailed."""
    began = time.monotonic()
    docker.build(REPOSITORY, tag(role), {"SERVICE": role, "BASE": base, **labels})
    tell(f"{tag(role)}: built in {time.monotonic() - began:.1f} s")


def tag(role: str) -> str:
    """The name of a local image."""
    return f"{REGISTRY}/dispatchd-{role}:local"


def chosen_base() -> str:
    """The base that the environment names, or the one of the Dockerfile."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    [usual] = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    return os.environ.get("IMAGE_BASE") or str(usual)


def labels_of_the_commit() -> dict[str, str]:
    """What a build is told of the commit it is made from; nothing where there is no history."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    if not (REPOSITORY / ".git").exists():
        return {}
    seconds = int(git("log", "-1", "--format=%ct"))
    return {
        "VERSION": importlib.metadata.version("dispatchd"),
        "REVISION": git("rev-parse", "HEAD"),
        "CREATED": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "SOURCE_DATE_EPOCH": str(seconds),
    }


def tell(line: str) -> None:
    """Shows progress at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
