"""The example that scales the workers of users does what docs/worker-autoscaling.md says."""

import re
from pathlib import Path

import yaml

from dispatchd_infra.manifests import worker_autoscaling
from dispatchd_infra.manifests.labels import CLIENTS
from dispatchd_infra.settings import read_common
from kubectl import kustomize
from pulumi_mocks import INFRA

REPOSITORY = INFRA.parent
DOCUMENT = (REPOSITORY / "docs" / "worker-autoscaling.md").read_text("utf-8")
PLACE = "gitops/components/worker-autoscaling"

WORKER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "worker"},
    "spec": {"selector": {}, "template": {}},
}


def test_a_user_includes_it_beside_a_deployment_as_documented(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    local = Path("component")
    (tmp_path / local).symlink_to(REPOSITORY / PLACE)
    text = re.sub(rf"https://\S+//{PLACE}\S*", str(local), example)
    assert text != example
    (tmp_path / "kustomization.yaml").write_text(text)
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(WORKER))

    objects = {value["kind"]: value for value in kustomize(tmp_path)}

    assert set(objects) == {"Deployment", "ScaledObject"}
    assert {value["metadata"]["namespace"] for value in objects.values()} == {"reports"}
    target = objects["ScaledObject"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", objects["Deployment"]["metadata"]["name"])


def test_the_document_names_the_repository_the_label_and_the_bounds_that_are_used() -> None:
    common = read_common(INFRA)
    [scaled] = worker_autoscaling.objects(common)
    [(label, value)] = CLIENTS.items()
    fewest, most = scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]

    assert common.repository.url.removesuffix(".git") + f"//{PLACE}?ref={common.repository.main}" in DOCUMENT
    assert f'`{label}: "{value}"`' in DOCUMENT
    assert f"with {fewest} to {most} workers" in DOCUMENT
    assert scaled["spec"]["triggers"][0]["metadata"]["threshold"] == "10"


def test_it_asks_for_a_metric_that_dispatchd_declares() -> None:
    [scaled] = worker_autoscaling.objects(read_common(INFRA))
    [name] = re.findall(r"dispatchd_([a-z_]+)\{", scaled["spec"]["triggers"][0]["metadata"]["query"])

    assert f'"{name}"' in (REPOSITORY / "app" / "dispatchd" / "telemetry" / "metrics.py").read_text("utf-8")
