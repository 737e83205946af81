"""A cluster program that would reach another cluster than the one its stack is for doesn't begin."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatchd_infra.cluster_settings import Cluster, checked_kubeconfig, cluster_from
from dispatchd_infra.settings import SettingsError, Stack

ARGOCD = {"manifest": "install.yaml", "sha256": "0" * 64}
CLUSTER = {"kubeconfig": "~/.kube/config", "context": "staging", "argocd": ARGOCD}


def kubeconfig(path: Path, current: str | None) -> Cluster:
    contexts = [{"name": name, "context": {"cluster": name, "user": name}} for name in ("staging", "production")]
    path.write_text(yaml.safe_dump({"kind": "Config", "contexts": contexts, "current-context": current}))
    return cluster_from({**CLUSTER, "kubeconfig": str(path)}, Stack.STAGING, "Pulumi.staging.yaml")


def test_the_current_context_is_the_one_of_the_stack(tmp_path: Path) -> None:
    cluster = kubeconfig(tmp_path / "config", "staging")

    assert checked_kubeconfig(cluster, "Pulumi.staging.yaml") == tmp_path / "config"


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", "staging")
    cluster = cluster_from(CLUSTER, Stack.STAGING, "Pulumi.staging.yaml")

    assert checked_kubeconfig(cluster, "Pulumi.staging.yaml") == tmp_path / ".kube" / "config"


@pytest.mark.parametrize(("current", "named"), [("production", "production"), (None, "none")])
def test_another_current_context_is_refused_with_what_to_do(tmp_path: Path, current: str | None, named: str) -> None:
    cluster = kubeconfig(tmp_path / "config", current)

    with pytest.raises(
        SettingsError,
        match=rf"^Pulumi\.staging\.yaml: dispatchd-clusters:cluster\.context: this stack is for staging, but the"
        rf" current context is {named};.*kubectl config use-context staging",
    ):
        checked_kubeconfig(cluster, "Pulumi.staging.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("a: [", "is no YAML"),
        ("contexts: []\ncurrent-context: staging\n", "has no context staging; it has none"),
        ("contexts: [{name: production}]\n", "has no context staging; it has production"),
        ("nonsense\n", "has no context staging; it has none"),
        ("contexts: 3\n", "has no context staging; it has none"),
        (b"\xff\xfe", "is no YAML"),
    ],
)
def test_a_kubeconfig_without_the_context_is_refused(tmp_path: Path, text: str | bytes | None, reason: str) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    cluster = cluster_from({**CLUSTER, "kubeconfig": str(path)}, Stack.STAGING, "Pulumi.staging.yaml")

    with pytest.raises(SettingsError, match=reason):
        checked_kubeconfig(cluster, "Pulumi.staging.yaml")


def test_the_home_of_somebody_who_is_not_here_is_refused() -> None:
    cluster = cluster_from({**CLUSTER, "kubeconfig": "~nobody-of-this-name/config"}, Stack.STAGING, "staging")

    with pytest.raises(
        SettingsError, match=r"cluster\.kubeconfig: ~nobody-of-this-name/config is in the home of nobody"
    ):
        checked_kubeconfig(cluster, "staging")


@pytest.mark.parametrize(
    ("value", "stack", "reason"),
    [
        (None, Stack.DEV, "Pulumi.dev.yaml: the key config.dispatchd-clusters:cluster is missing"),
        (CLUSTER, Stack.BASE, "Pulumi.base.yaml: stack base is no environment"),
        ({**CLUSTER, "context": 1}, Stack.DEV, "Pulumi.dev.yaml: dispatchd-clusters:cluster: context"),
        ({**CLUSTER, "contxt": "a"}, Stack.DEV, "Pulumi.dev.yaml: dispatchd-clusters:cluster: contxt"),
        ({**CLUSTER, "argocd": {**ARGOCD, "sha256": "latest"}}, Stack.DEV, "argocd.sha256"),
        ({**CLUSTER, "argocd": {**ARGOCD, "manifest": "http://plain"}}, Stack.DEV, "must begin with https://"),
    ],
)
def test_a_mistake_is_named_with_the_file_and_the_key(value: Any, stack: Stack, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        cluster_from(value, stack, f"Pulumi.{stack}.yaml")
