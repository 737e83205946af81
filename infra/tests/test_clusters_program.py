"""The program of clusters/, run with Pulumi's mocks, with a kubeconfig and a manifest of the test's own."""

import hashlib
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from dispatchd_infra.cluster_settings import CLUSTER_KEY
from dispatchd_infra.folders.argocd import bootstrap
from dispatchd_infra.manifests import cluster
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common, read_environment
from pulumi_mocks import INFRA, Registered, run, stack_config

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: argocd-cm}\n"


def settings(folder: Path, stack: str, current: str | None = None) -> dict[str, Any]:
    """The committed settings of a stack, but for the two files that this test makes."""
    config = stack_config("clusters", stack)
    context = config[CLUSTER_KEY]["context"]
    (folder / "config").write_text(
        yaml.safe_dump({"contexts": [{"name": context}], "current-context": current or context})
    )
    (folder / "install.yaml").write_text(MANIFEST)
    sha256 = hashlib.sha256(MANIFEST.encode()).hexdigest()
    argocd = {"manifest": str(folder / "install.yaml"), "sha256": sha256}
    config[CLUSTER_KEY] = {**config[CLUSTER_KEY], "kubeconfig": str(folder / "config"), "argocd": argocd}
    return config


def applied(registered: Registered) -> list[Object]:
    return [args.inputs for args in registered.resources if args.typ.startswith("kubernetes:")]


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_a_cluster_gets_what_render_cluster_prints_then_argo_cd_then_the_root_application(
    tmp_path: Path, stack: Stack
) -> None:
    registered = run("clusters", stack, settings(tmp_path, stack))

    objects = applied(registered)
    common, environment = read_common(INFRA), read_environment(INFRA, stack)
    expected = cluster.objects(common, environment) + bootstrap(common, stack)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert all(each in objects for each in expected)
    assert len(objects) == len(expected) + 1
    assert names[-2:] == [("AppProject", "bootstrap"), ("Application", "root")]
    assert ("ConfigMap", "argocd-cm") in names


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_there_is_one_provider_and_it_is_explicit(tmp_path: Path, stack: Stack) -> None:
    config = settings(tmp_path, stack)
    registered = run("clusters", stack, config)

    (provider,) = registered.of_type("pulumi:providers:kubernetes").values()
    assert provider.inputs["context"] == config[CLUSTER_KEY]["context"]
    assert provider.inputs["kubeconfig"] == str(tmp_path / "config")
    assert all(args.provider for args in registered.resources if args.typ.startswith("kubernetes:"))
    assert config["pulumi:disable-default-providers"] == ["*"]


def test_no_two_environments_are_meant_for_the_same_context() -> None:
    contexts = [stack_config("clusters", stack)[CLUSTER_KEY]["context"] for stack in ENVIRONMENTS]

    assert len(set(contexts)) == len(contexts)


def test_another_current_context_ends_the_program_before_anything_is_registered(tmp_path: Path) -> None:
    with pytest.raises(
        pulumi.RunError, match=r"infra/clusters/Pulumi\.staging\.yaml: .*the current context is production"
    ):
        run("clusters", "staging", settings(tmp_path, "staging", current="production"))


@pytest.mark.parametrize("stack", ["base", "prod-region-c"])
def test_a_stack_that_is_no_environment_is_refused(tmp_path: Path, stack: str) -> None:
    with pytest.raises(pulumi.RunError, match=stack):
        run("clusters", stack, settings(tmp_path, "dev"))


def test_a_changed_manifest_ends_the_program(tmp_path: Path) -> None:
    config = settings(tmp_path, "dev")
    (tmp_path / "install.yaml").write_text(MANIFEST + "data: {a: b}\n")

    with pytest.raises(pulumi.RunError, match=r"infra/clusters/Pulumi\.dev\.yaml: .*\.argocd\.sha256"):
        run("clusters", "dev", config)
