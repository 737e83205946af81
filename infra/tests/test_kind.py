"""`make kind-up`, up to where a real Docker is needed, and that its files fit what is rendered."""

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import cluster_up
from kubectl import kustomize

GITOPS = cluster_up.REPOSITORY / "gitops"

Programs = Callable[..., None]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the programs that a test puts on the PATH write down their calls."""
    path = tmp_path / "calls"
    path.touch()
    monkeypatch.setenv("CALLS", str(path))
    return path


@pytest.fixture
def programs(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts exactly these programs on the PATH, each with the shell lines that answer a call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(cluster_up, "COMMAND", folder / "infra")
    monkeypatch.setattr(cluster_up, "DISPATCHD", folder)

    def put(**answers: str) -> None:
        for name, answer in answers.items():
            program = folder / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{answer}\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return put


def test_without_docker_nothing_is_run(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster_up.main() == 1
    assert capsys.readouterr().err.startswith("kind-up: not run: there is no `docker` on the PATH")


def test_without_kind_nothing_is_run(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    programs(docker="exit 0")
    assert cluster_up.main() == 1
    assert capsys.readouterr().err.startswith("kind-up: not run: there is no `kind` on the PATH")


def test_a_docker_that_does_not_answer_is_named(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    programs(docker="exit 1", kind="exit 0", kubectl="exit 0")
    assert cluster_up.main() == 1
    assert "not run: Docker does not answer" in capsys.readouterr().err


def test_settings_that_can_not_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_up, "INFRA", tmp_path)
    assert cluster_up.main() == 1
    assert capsys.readouterr().err.startswith("kind-up: infra/common.yaml: this file can't be read")


def test_missing_local_images_are_named(programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    programs(docker='case "$3" in *scheduler*) exit 1;; esac', kind="exit 0", kubectl="exit 0")
    assert cluster_up.main() == 1
    said = capsys.readouterr().err
    assert "not run: Docker has no image" in said
    assert "dispatchd-scheduler:local" in said
    assert "control-plane" not in said


def test_a_node_image_that_can_not_be_had_is_named(
    programs: Programs, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs(
        docker='case "$*" in "image inspect kindest"*|pull*) exit 1;; esac',
        kind='echo "kind was called" >&2; exit 1',
        kubectl="exit 1",
    )
    assert cluster_up.main() == 1
    assert "not run: the node image kindest/node:v1.34" in capsys.readouterr().err
    assert "kind " not in calls.read_text().replace("docker image inspect kindest", "")


def test_everything_is_applied_in_order_and_the_result_of_a_job_is_printed(
    programs: Programs, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_up, "KIND", tmp_path)
    (tmp_path / "cluster.yaml").write_text("nodes: [{image: a-node}]")
    programs(
        docker="exit 0",
        kind="exit 0",
        kubectl='case "$*" in *"get job"*) echo job/migrate;; *"get deployment"*) echo deployment/control-plane;; esac',
        infra="exit 0",
        dispatchd="exec /bin/sleep 60",
        python='echo "Hello, kind!"',
    )

    assert cluster_up.main() == 0

    assert capsys.readouterr().out.endswith("result: Hello, kind!\n")
    wanted = [
        "docker info",
        "kind create cluster --name dispatchd",
        "kind load docker-image --name dispatchd",
        "infra render-cluster --env dev",
        "kubectl --context=kind-dispatchd apply",
        "infra dev-secret --context kind-dispatchd",
        "kubectl --context=kind-dispatchd delete job migrate",
        "kubectl kustomize",
        "kubectl --context=kind-dispatchd apply",
        "kubectl --context=kind-dispatchd wait --for=condition=complete job/migrate",
        "kubectl --context=kind-dispatchd rollout status deployment/control-plane",
        "python hello.py",
    ]
    made = iter(calls.read_text().splitlines())
    for call in wanted:
        assert any(line.startswith(call) for line in made), f"{call} was not called, or too early"


def test_the_way_in_leads_from_this_host_to_the_pods_of_dev() -> None:
    cluster = yaml.safe_load((cluster_up.KIND / "cluster.yaml").read_text())
    host_port = {each["containerPort"]: each["hostPort"] for each in cluster["nodes"][0]["extraPortMappings"]}
    dev = kustomize(GITOPS / "overlays" / "dev")
    (control_plane, worker_gateway) = (
        host_port[port["nodePort"]]
        for role in ("control-plane", "worker-gateway")
        for each in dev
        if each["kind"] == "Service" and each["spec"]["selector"].get("app.kubernetes.io/name") == role
        for port in each["spec"]["ports"]
        if "nodePort" in port
    )
    example = (cluster_up.KIND / "hello.py").read_text()
    assert re.findall(r'"127\.0\.0\.1:(\d+)"', example) == [str(worker_gateway), str(control_plane)]


def test_the_overlay_of_this_machine_has_the_local_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_up, "KIND", tmp_path / "infra" / "kind")
    monkeypatch.setattr(cluster_up, "REPOSITORY", tmp_path)
    (tmp_path / "infra" / "kind").mkdir(parents=True)
    (tmp_path / "gitops").symlink_to(GITOPS)
    images = [f"ghcr.io/dispatchd/dispatchd-{role}:local" for role in cluster_up.ROLES]

    objects = kustomize(cluster_up._write_overlay(images))

    used = {
        container["image"]
        for each in objects
        if each["kind"] in ("Deployment", "Job")
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert used == set(images)
