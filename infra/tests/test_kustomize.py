"""Kustomizations and components are what kustomize makes of them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatchd_infra import emit, kustomize
from dispatchd_infra.manifests.waves import ANNOTATION
from dispatchd_infra.objects import Object, patch
from kubectl import kustomize as build

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "reader"},
    "spec": {"containers": [{"name": "main", "image": "x", "envFrom": [{"configMapRef": {"name": "settings"}}]}]},
}


def _write(folder: Path, kustomization: Object, others: Mapping[str, Object] | None = None) -> Path:
    folder.mkdir(parents=True)
    for name, value in {kustomize.FILE: kustomization, **(others or {})}.items():
        (folder / name).write_text(emit.document(value, "test"))
    return folder


def _build(tmp_path: Path, base_values: Mapping[str, str], added: Mapping[str, str]) -> tuple[Object, Object]:
    """The pod and the config map of a base, and of a component that adds values."""
    base = kustomize.kustomization(resources=["pod.yaml"], config_maps=[kustomize.config_map("settings", base_values)])
    component = kustomize.component(config_maps=[kustomize.config_map("settings", added, adds_to_existing=True)])
    _write(tmp_path / "base", base, {"pod.yaml": POD})
    _write(tmp_path / "component", component)
    overlay = kustomize.kustomization(resources=["../base"], components=["../component"], namespace="here")
    found = {value["kind"]: value for value in build(_write(tmp_path / "overlay", overlay))}
    return found["Pod"], found["ConfigMap"]


def test_a_component_adds_settings_and_the_pod_follows_the_hash(tmp_path: Path) -> None:
    pod, settings = _build(tmp_path / "one", {"A": "1"}, {"B": "x=y"})
    other_pod, _ = _build(tmp_path / "other", {"A": "1"}, {"B": "x=z"})

    name = settings["metadata"]["name"]
    assert settings["data"] == {"A": "1", "B": "x=y"}
    assert name.startswith("settings-")
    assert pod["spec"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": name}}]
    assert pod["spec"] != other_pod["spec"]


def test_a_generated_config_map_comes_before_its_readers(tmp_path: Path) -> None:
    _, settings = _build(tmp_path, {"A": "1"}, {"B": "2"})

    assert settings["metadata"]["annotations"] == {
        ANNOTATION: "-4",
        "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    }


def test_values_that_look_like_numbers_or_words_of_yaml_stay_as_they_are(tmp_path: Path) -> None:
    odd = {"A": "1e3", "B": "0o17", "C": "on", "D": "~", "E": "", "F": " x ", "G": "é: #", "H": "2026-11-28"}

    _, settings = _build(tmp_path, {"Z": "1"}, odd)

    assert settings["data"] == {**odd, "Z": "1"}


@pytest.mark.parametrize("value", ["'quoted'", 'half"', "two\nlines"])
def test_a_value_that_kustomize_would_change_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="A: "):
        kustomize.config_map("settings", {"A": value})


def test_a_patch_changes_only_its_fields(tmp_path: Path) -> None:
    change = patch("v1", "Pod", "reader", {"containers": [{"name": "main", "image": "y"}], "priority": None})
    name = emit.file_name(change, kustomize.PATCH)
    base = kustomize.kustomization(resources=["pod.yaml"], patches=[name])

    [pod] = build(_write(tmp_path / "base", base, {"pod.yaml": POD, name: change}))

    [container] = pod["spec"]["containers"]
    assert (container["image"], container["envFrom"][0]["configMapRef"]["name"]) == ("y", "settings")
    assert "priority" not in pod["spec"]


def test_fields_without_content_are_left_out() -> None:
    assert kustomize.kustomization() == {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
    }
