"""`make kind-up`: dispatchd in a cluster on this machine, from overlays/dev and the local images.

It can be run again after a change of gitops/ or of the images. What it needs and does not find it names, and then says
"not run", before anything was made.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from dispatchd_infra.settings import Common, SettingsError, read_common

NAME = "dispatchd"
CONTEXT = f"kind-{NAME}"
KIND = Path(__file__).resolve().parent
INFRA = KIND.parent
REPOSITORY = INFRA.parent
DISPATCHD = REPOSITORY / ".venv" / "bin"
"""Where the application's own environment has its programs."""
COMMAND = Path(sys.executable).parent / "infra"
ROLES = ("control-plane", "scheduler", "worker-gateway")
TAG = "local"


class NotRun(Exception):
    """Something is missing that this can't make by itself; the text says what to do."""


class Failed(Exception):
    """A step went wrong; the text says which, and what it said."""


def main() -> int:
    try:
        common = read_common(INFRA)
        images = [f"{common.registry}/dispatchd-{role}:{TAG}" for role in ROLES]
        _check_programs()
        _check_images(images)
        _check_node_image()
        _up(common, images)
    except NotRun as exc:
        print(f"kind-up: not run: {exc}", file=sys.stderr)
        return 1
    except (Failed, SettingsError) as exc:
        print(f"kind-up: {exc}", file=sys.stderr)
        return 1
    return 0


def _check_programs() -> None:
    for program, remedy in (
        ("docker", "Docker runs the cluster; install it: https://docs.docker.com/engine/install/"),
        ("kind", "kind makes the cluster; install it: https://kind.sigs.k8s.io/docs/user/quick-start/"),
        ("kubectl", "kubectl speaks to the cluster; install it: https://kubernetes.io/docs/tasks/tools/"),
    ):
        if shutil.which(program) is None:
            raise NotRun(f"there is no `{program}` on the PATH. {remedy}")
    if _answer("docker", "info").returncode != 0:
        raise NotRun("Docker does not answer; start it, and see that `docker info` works for you")


def _check_images(images: Sequence[str]) -> None:
    missing = [image for image in images if _answer("docker", "image", "inspect", image).returncode != 0]
    if missing:
        raise NotRun(f"Docker has no image {', '.join(missing)}; `make images` builds them")


def _check_node_image() -> None:
    image = yaml.safe_load((KIND / "cluster.yaml").read_text(encoding="utf-8"))["nodes"][0]["image"]
    if _answer("docker", "image", "inspect", image).returncode == 0:
        return
    print(f"kind-up: fetching {image}", flush=True)
    if _answer("docker", "pull", image).returncode != 0:
        raise NotRun(f"the node image {image} is not here and could not be fetched; `docker pull` it where that works")


def _up(common: Common, images: Sequence[str]) -> None:
    namespace = common.namespaces.dispatchd
    if NAME not in _run("kind", "get", "clusters").split():
        _run("kind", "create", "cluster", "--name", NAME, "--config", str(KIND / "cluster.yaml"))
    _run("kind", "load", "docker-image", "--name", NAME, *images)
    _apply(given=_infra("render-cluster", "--env", "dev"))
    _infra("dev-secret", "--context", CONTEXT)
    overlay = _write_overlay(images)
    # A Job can't be changed. Argo CD, too, deletes this one before each sync.
    _kubectl("delete", "job", "migrate", "--ignore-not-found", f"--namespace={namespace}")
    _apply(given=_run("kubectl", "kustomize", str(overlay)))
    _await(namespace)
    print(
        f"kind-up: dispatchd runs in the context {CONTEXT}; control-plane is at 127.0.0.1:8080, worker-gateway at 8081"
    )
    print(f"kind-up: the example job's result: {_example()}")


def _write_overlay(images: Sequence[str]) -> Path:
    """overlays/dev with the local images; returns the folder, which git ignores."""
    folder = KIND / "local"
    folder.mkdir(exist_ok=True)
    gitops = os.path.relpath(REPOSITORY / "gitops", folder)
    split = [image.rpartition(":") for image in images]
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{gitops}/overlays/dev"],
        "images": [{"name": name, "newName": name, "newTag": tag} for name, _, tag in split],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder


def _await(namespace: str) -> None:
    """Waits until the schema is there and every role is ready."""
    place = f"--namespace={namespace}"
    for kind in ("statefulset", "job", "deployment"):
        for name in _kubectl("get", kind, place, "--output=name").split():
            print(f"kind-up: waiting for {name}", flush=True)
            ready = ("wait", "--for=condition=complete") if kind == "job" else ("rollout", "status")
            try:
                _kubectl(*ready, name, place, "--timeout=300s")
            except Failed as exc:
                pods = _kubectl("get", "pods", place)
                raise Failed(f"{name} was not ready within 5 minutes: {exc}\n{pods}") from exc


def _example() -> str:
    """Runs a worker on this host and gives the result of the one job it gets."""
    command = [str(DISPATCHD / "dispatchd"), "worker", "hello:worker", "--log-level", "warning"]
    with subprocess.Popen(command, cwd=KIND) as worker:
        try:
            return _run(str(DISPATCHD / "python"), "hello.py", cwd=KIND).strip()
        finally:
            worker.terminate()


def _apply(given: str) -> None:
    _kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", given=given)


def _infra(*arguments: str) -> str:
    return _run(str(COMMAND), *arguments)


def _kubectl(*arguments: str, given: str | None = None) -> str:
    return _run("kubectl", f"--context={CONTEXT}", *arguments, given=given)


def _run(*command: str, given: str | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(command, input=given, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"`{' '.join([Path(command[0]).name, *command[1:]])}` failed: {done.stderr.strip()}")
    return done.stdout


def _answer(*command: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    sys.exit(main())
