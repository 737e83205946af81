"""Builds the three images and uses them: `python -m images.check`, with `tests` on the path, or `make image-check`.

    build ─► look at what an image says of itself ─► migrate ─► start the roles, hardened ─► a job through all three
          ─► look into the containers ─► SIGTERM ─► how large the images are

Postgres and Valkey are those that come as wheels, so that nothing is pulled but the base image. `--base`, or
`IMAGE_BASE`, names another base: where no registry can be reached, one made by debootstrap. The exit code is 0 if all
was well, 1 if not, and 75 (EX_TEMPFAIL) where no Docker daemon answers: then nothing was checked.
"""

import argparse
import importlib.metadata
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from dispatchd import Client, Worker
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from images.docker import Docker, DockerFailed
from images.worker_thread import serving

REPOSITORY = Path(__file__).parents[2]
REGISTRY = yaml.safe_load((REPOSITORY / "infra" / "common.yaml").read_text(encoding="utf-8"))["registry"]
ROLES = ("control-plane", "scheduler", "worker-gateway")
USER = "65532:65532"
LARGEST_MB = 45
"""What the layers above the base may have, compressed, in millions of bytes."""
HEALTHY_WITHIN_S = 60
ENDS_WITHIN_S = 30


class CheckFailed(Exception):
    """An image is not as it should be; the text says which and how."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="images.check", description="Build the three images and use them.")
    parser.add_argument("--base", default=os.environ.get("IMAGE_BASE") or base_of_the_dockerfile())
    parser.add_argument("--output", type=Path, help="write what was found as JSON")
    options = parser.parse_args()
    docker = Docker()
    version = docker.version()
    if version is None:
        tell("image-check: not run: no Docker daemon answers; start one, or let `docker version` say what is wrong")
        return os.EX_TEMPFAIL
    try:
        found = {"docker": version, "base": options.base, **check(docker, options.base)}
    except (CheckFailed, DockerFailed) as failed:
        tell(f"image-check: failed: {failed}")
        return 1
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def tell(line: str) -> None:
    """Shows progress at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def base_of_the_dockerfile() -> str:
    """The base image that a build takes if nothing else is said."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    [found] = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    return str(found)


def check(docker: Docker, base: str) -> dict[str, Any]:
    """Builds and uses the images; returns the figures. Raises CheckFailed or DockerFailed."""
    labels = _labels()
    docker.fetch(base)
    for role in ROLES:
        began = time.monotonic()
        docker.build(REPOSITORY, tag(role), {"SERVICE": role, "BASE": base, **labels})
        tell(f"{tag(role)}: built in {time.monotonic() - began:.1f} s")
        check_description(role, docker.inspect(tag(role))["Config"], labels)
    with tempfile.TemporaryDirectory(prefix="dispatchd-images-") as folder:
        _use(docker, Path(folder))
    size_mb = {role: round(docker.compressed_bytes_above(tag(role), base) / 1e6, 1) for role in ROLES}
    tell(f"layers above the base, compressed: {max(size_mb.values())} MB, at most {LARGEST_MB}")
    _require(max(size_mb.values()) <= LARGEST_MB, f"the layers above the base have {size_mb} MB, over {LARGEST_MB}")
    return {"revision": labels["REVISION"], "compressed_mb_above_base": size_mb}


def tag(role: str) -> str:
    """The name of a local image, by which `make kind-up` and compose.yaml look for it."""
    return f"{REGISTRY}/dispatchd-{role}:local"


def check_description(role: str, config: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Raises CheckFailed if an image does not say of itself what it should."""
    described = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    found = {
        "user": config["User"],
        "entrypoint": config["Entrypoint"],
        "command": config["Cmd"],
        "ports": sorted(config["ExposedPorts"]),
        "labels": {name: described.get(name.lower()) for name in labels if name != "SOURCE_DATE_EPOCH"},
        "health check": bool(config.get("Healthcheck")),
    }
    ports = {"control-plane": (8080, 9100), "scheduler": (9101,), "worker-gateway": (8080, 9102)}
    wanted = {
        "user": USER,
        "entrypoint": ["dispatchd"],
        "command": [role],
        "ports": [f"{port}/tcp" for port in ports[role]],
        "labels": {name: value for name, value in labels.items() if name != "SOURCE_DATE_EPOCH"},
        "health check": True,
    }
    wrong = {name: found[name] for name in wanted if found[name] != wanted[name]}
    _require(not wrong, f"{tag(role)} says {wrong}, and should say { ({name: wanted[name] for name in wrong}) }")


def _labels() -> dict[str, str]:
    """What a build is told of the commit it is made from."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    seconds = int(git("log", "-1", "--format=%ct"))
    return {
        "VERSION": importlib.metadata.version("dispatchd"),
        "REVISION": git("rev-parse", "HEAD"),
        "CREATED": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "SOURCE_DATE_EPOCH": str(seconds),
    }


def _use(docker: Docker, folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
        environment = {"DATABASE_URL": postgres.url, "REDIS_ADDRESS": valkey.address}
        tell(docker.call(tag("control-plane"), environment, "migrate").strip() or "migrated")
        ports = {role: (free_port(), free_port()) for role in ROLES}
        with _running(docker, environment, ports) as containers:
            for role, container in containers.items():
                _become_healthy(docker, role, container)
            _do_a_job(ports)
            for role, container in containers.items():
                _look_into(docker, role, container)
                _end(docker, role, container)


@contextmanager
def _running(
    docker: Docker, environment: Mapping[str, str], ports: Mapping[str, tuple[int, int]]
) -> Iterator[dict[str, str]]:
    name = f"dispatchd-check-{secrets.token_hex(4)}"
    containers = {}
    try:
        for role, (grpc, http) in ports.items():
            own = {**environment, "GRPC_PORT": str(grpc), "METRICS_PORT": str(http)}
            containers[role] = docker.start(tag(role), f"{name}-{role}", own)
        yield containers
    finally:
        for container in containers.values():
            docker.run("rm", "--force", container)


def _become_healthy(docker: Docker, role: str, container: str) -> None:
    began = time.monotonic()
    while time.monotonic() < began + HEALTHY_WITHIN_S:
        state = docker.inspect(container)["State"]
        if state["Health"]["Status"] == "healthy":
            tell(f"{role}: healthy after {time.monotonic() - began:.0f} s")
            return
        if not state["Running"]:
            break
        time.sleep(0.5)
    raise CheckFailed(f"{role} is {state['Status']} and {state['Health']['Status']}: {docker.run('logs', container)}")


def _do_a_job(ports: Mapping[str, tuple[int, int]]) -> None:
    worker = Worker(f"127.0.0.1:{ports['worker-gateway'][0]}")

    @worker.task("image.double")
    def double(number: int) -> int:
        return 2 * number

    with serving(worker), Client(f"127.0.0.1:{ports['control-plane'][0]}") as client:
        result = client.result(client.submit(double, 21), double, timeout=30)
    _require(result == 42, f"the job's result is {result!r}")
    tell("a job went from the control-plane over the worker-gateway to a worker and back")


def _look_into(docker: Docker, role: str, container: str) -> None:
    """Process 1 is the role itself, without rights, and can't write where its code is."""
    look = "import os; print(os.getuid(), os.getgid(), *open('/proc/1/cmdline').read().split('\\0'))"
    user, group, *command = docker.run("exec", container, "python", "-c", look).split()
    _require((user, group) == ("65532", "65532"), f"{role} runs as {user}:{group}")
    _require(command[-2:] == ["/opt/dispatchd/bin/dispatchd", role], f"process 1 of {role} is {command}")
    try:
        docker.run("exec", container, "python", "-c", "open('/opt/dispatchd/written', 'w')")
    except DockerFailed as refused:
        _require("Read-only file system" in str(refused), str(refused))
    else:
        raise CheckFailed(f"{role} may write to its own code")


def _end(docker: Docker, role: str, container: str) -> None:
    began = time.monotonic()
    docker.run("stop", "--time", str(ENDS_WITHIN_S), container)
    state = docker.inspect(container)["State"]
    _require(state["ExitCode"] == 0, f"{role} ended with {state['ExitCode']}: {docker.run('logs', container)}")
    tell(f"{role}: ended in order {time.monotonic() - began:.1f} s after SIGTERM")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise CheckFailed(message)


if __name__ == "__main__":
    sys.exit(main())
