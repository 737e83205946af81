"""Builds the three images and uses them: `python -m images.check`, with `tests` on the path, or `make image-check`.

    build ─► look at what an image says of itself ─► migrate ─► start the roles, hardened ─► a job through all three
          ─► look into the containers ─► SIGTERM ─► how large the images are

Postgres and Valkey are those that come as wheels, so that nothing is pulled but the base image, which `images.build`
chooses. The exit code is 0 if all was well, 1 if not, and 75 (EX_TEMPFAIL) where no Docker daemon answers: then nothing
was checked.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dispatchd import Client, Worker
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from images.build import ROLES, build, chosen_base, labels_of_the_commit, tag, tell
from images.docker import Docker, DockerFailed
from images.worker_thread import serving

USER = "65532:65532"
LARGEST_MB = 45
"""What the layers above the base may have, compressed, in millions of bytes."""
HEALTHY_WITHIN_S = 60
ENDS_WITHIN_S = 30


class CheckFailed(Exception):
    """An image is not as it should be; the text says which and how."""


def main() -> int:
    docker = Docker()
    version = docker.version()
    if version is None:
        tell("image-check: not run: no Docker daemon answers; start one, or let `docker version` say what is wrong")
        return os.EX_TEMPFAIL
    try:
        tell(f"Docker {version}, base {chosen_base()}")
        check(docker, chosen_base())
    except (CheckFailed, DockerFailed) as failed:
        tell(f"image-check: failed: {failed}")
        return 1
    return 0


def check(docker: Docker, base: str) -> None:
    """Builds and uses the images. Raises CheckFailed or DockerFailed."""
    labels = labels_of_the_commit()
    docker.fetch(base)
    for role in ROLES:
        build(docker, role, base, labels)
        check_description(role, docker.inspect(tag(role))["Config"], labels)
    with tempfile.TemporaryDirectory(prefix="dispatchd-images-") as folder:
        _use(docker, Path(folder))
    size_mb = {role: round(docker.compressed_bytes_above(tag(role), base) / 1e6, 1) for role in ROLES}
    tell(f"layers above the base, compressed: {max(size_mb.values())} MB, at most {LARGEST_MB}")
    _require(max(size_mb.values()) <= LARGEST_MB, f"the layers above the base have {size_mb} MB, over {LARGEST_MB}")


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


def _use(docker: Docker, folder: Path) -> None:
    with EmbeddedPostgres(folder / "postgres") as postgres, EmbeddedValkey(folder / "valkey") as valkey:
        environment = {"DATABASE_URL": postgres.url, "REDIS_ADDRESS": valkey.address}
        tell(docker.call(tag("control-plane"), environment, "migrate").strip() or "migrated")
        ports = {role: (free_port(), free_port()) for role in ROLES}
        with running(docker, environment, ports) as containers:
            for role, container in containers.items():
                _become_healthy(docker, role, container)
            _do_a_job(ports)
            for role, container in containers.items():
                _look_into(docker, role, container)
                _end(docker, role, container)


@contextmanager
def running(
    docker: Docker, environment: Mapping[str, str], ports: Mapping[str, tuple[int, int]]
) -> Iterator[dict[str, str]]:
    """The roles in hardened containers, by their names, until the end of the block."""
    prefix = f"dispatchd-check-{secrets.token_hex(4)}"
    names = {role: f"{prefix}-{role}" for role in ports}
    try:
        for role, (grpc, http) in ports.items():
            own = {**environment, "GRPC_PORT": str(grpc), "METRICS_PORT": str(http)}
            docker.start(tag(role), names[role], own)
        yield names
    finally:
        # Also the one that was made and could not be started.
        for name in names.values():
            docker.remove(name)


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
