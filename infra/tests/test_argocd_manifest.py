"""Nothing of Argo CD's manifest is used unless it is the file that was looked at."""

import hashlib
from http.client import IncompleteRead
from pathlib import Path

import pytest

from dispatchd_infra.argocd_manifest import read_manifest
from dispatchd_infra.cluster_settings import Manifest
from dispatchd_infra.settings import SettingsError

MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: argocd-cm, labels: {app.kubernetes.io/part-of: argocd}}
---
---
apiVersion: v1
kind: Secret
metadata: {name: argocd-secret}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argocd-server}
subjects: [{kind: ServiceAccount, name: argocd-server, namespace: argocd}]
"""


def source(folder: Path, text: str = MANIFEST, sha256: str | None = None) -> Manifest:
    (folder / "install.yaml").write_text(text)
    return Manifest(manifest="install.yaml", sha256=sha256 or hashlib.sha256(text.encode()).hexdigest())


def test_namespaced_objects_are_put_into_the_namespace(tmp_path: Path) -> None:
    objects = read_manifest(source(tmp_path), tmp_path, "argocd", "Pulumi.dev.yaml")

    assert [(each["kind"], each["metadata"].get("namespace")) for each in objects] == [
        ("ConfigMap", "argocd"),
        ("Secret", "argocd"),
        ("ClusterRoleBinding", None),
    ]


def test_argo_cd_learns_what_a_healthy_application_is_and_keeps_its_labels(tmp_path: Path) -> None:
    config_map = read_manifest(source(tmp_path), tmp_path, "argocd", "Pulumi.dev.yaml")[0]

    assert list(config_map["data"]) == ["resource.customizations.health.argoproj.io_Application"]
    assert config_map["metadata"]["labels"] == {"app.kubernetes.io/part-of": "argocd"}


def test_a_changed_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError,
        match=r"Pulumi\.dev\.yaml: dispatchd-clusters:cluster\.argocd\.sha256: install\.yaml has [0-9a-f]{64}",
    ):
        read_manifest(source(tmp_path, "a: [", "0" * 64), tmp_path, "argocd", "Pulumi.dev.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "is no YAML"),
        ("just text\n", "a document in it is no Kubernetes object"),
        ("apiVersion: v1\nkind: Secret\n", "a document in it is no Kubernetes object"),
        ("apiVersion: v1\nkind: Secret\nmetadata:\n", "a document in it is no Kubernetes object"),
        ("apiVersion: v1\nkind: Secret\nmetadata: [name]\n", "a document in it is no Kubernetes object"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n", "Secret s has data"),
        (MANIFEST.replace("namespace: argocd", "namespace: other"), "argocd-server is for namespace other"),
    ],
)
def test_a_file_that_we_would_not_apply_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_manifest(source(tmp_path, text), tmp_path, "argocd", "Pulumi.dev.yaml")


def test_a_download_that_ends_in_the_middle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise IncompleteRead(b"apiVersion")

    monkeypatch.setattr("urllib.request.urlopen", cut_off)
    manifest = Manifest(manifest="https://example.org/install.yaml", sha256="0" * 64)

    with pytest.raises(SettingsError, match=r"https://example\.org/install\.yaml can't be read: IncompleteRead"):
        read_manifest(manifest, tmp_path, "argocd", "Pulumi.dev.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    manifest = Manifest(manifest="nowhere.yaml", sha256="0" * 64)

    with pytest.raises(
        SettingsError, match=r"dispatchd-clusters:cluster\.argocd\.manifest: nowhere\.yaml can't be read"
    ):
        read_manifest(manifest, tmp_path, "argocd", "Pulumi.dev.yaml")
