"""The real Pulumi prepares an empty cluster for dev with the program in infra/clusters.

Argo CD itself does not run here: its manifest is too large to keep, and its image needs a node. A stand-in takes its
place, with the same two kinds that the program then uses and the ConfigMap that it adds to.
"""

import hashlib
import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pulumi import automation

from cluster.cluster import Cluster
from cluster.definitions import custom_resource_definitions
from cluster.processes import CONTEXT, TOKEN, control_plane
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from infra_tools.catalogue import KUBERNETES_PROVIDER, PULUMI, find
from rendered import REPOSITORY, Rendered, name_of

CLUSTER_KEY = "dispatchd-clusters:cluster"


@pytest.fixture(scope="module")
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this module."""
    return tmp_path_factory.mktemp("clusters-program")


@pytest.fixture(scope="module")
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with nothing in it at all, until `stack` has prepared it."""
    folder = tmp_path / "control-plane"
    folder.mkdir()
    with control_plane(folder) as kubeconfig:
        yield Cluster(kubeconfig)


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path: Path) -> automation.Stack:
    """The stack dev of a copy of the program, after an up that prepared that cluster."""
    infra = tmp_path / "infra"
    for name in ("clusters", "gitops"):
        shutil.copytree(REPOSITORY / "infra" / name, infra / name, ignore=shutil.ignore_patterns(".state"))
    shutil.copy2(REPOSITORY / "infra" / "common.yaml", infra)
    program = infra / "clusters"

    manifest = program / "stand-in.yaml"
    manifest.write_text(yaml.safe_dump_all(stand_in_for_argo_cd()))
    settings = yaml.safe_load((program / "Pulumi.dev.yaml").read_text())
    settings["config"][CLUSTER_KEY] = {
        "kubeconfig": str(cluster.kubeconfig),
        "context": CONTEXT,
        "argocd": {"manifest": manifest.name, "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest()},
    }
    (program / "Pulumi.dev.yaml").write_text(yaml.safe_dump(settings))

    command = tmp_path / "pulumi" / "bin" / "pulumi"
    command.parent.mkdir(parents=True)
    command.symlink_to(find(PULUMI))
    (tmp_path / "state").mkdir()
    prepared = automation.create_or_select_stack(
        "dev",
        project_name="dispatchd-clusters",
        program=lambda: run(program / "__main__.py"),
        opts=automation.LocalWorkspaceOptions(
            work_dir=str(program),
            pulumi_command=automation.PulumiCommand(str(tmp_path / "pulumi")),
            env_vars={
                "PATH": f"{find(KUBERNETES_PROVIDER).parent}{os.pathsep}{os.environ['PATH']}",
                "PULUMI_HOME": str(tmp_path / "home"),
                "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE": "of a test",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            },
        ),
    )
    prepared.up()
    return prepared


@pytest.mark.timeout(300)
def test_an_empty_cluster_is_prepared_by_one_up_and_a_second_changes_nothing(
    stack: automation.Stack, cluster: Cluster, rendered: Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {name_of(each) for each in rendered.cluster[Stack.DEV]}
    assert wanted <= {name_of(each) for each in cluster.read(",".join(kinds(rendered)))}
    assert [each["metadata"]["name"] for each in cluster.read("applications.argoproj.io")] != []

    summary = stack.up().summary.resource_changes
    assert summary is not None
    assert set(summary) == {"same"}
    with capsys.disabled():
        print("\ninfra/clusters prepared an API server for dev; Argo CD itself did not run")  # noqa: T201


@pytest.mark.timeout(300)
def test_state_has_no_credentials_and_destroying_leaves_the_namespaces(
    stack: automation.Stack, cluster: Cluster, tmp_path: Path
) -> None:
    state = "".join(path.read_text() for path in (tmp_path / "state").rglob("*.json"))
    assert "kubeconfig" in state
    assert TOKEN not in state

    # This is the last test of the module: what is not protected is gone afterwards.
    with pytest.raises(automation.CommandError, match="protected"):
        stack.destroy()

    assert {"dispatchd", "argocd"} <= {each["metadata"]["name"] for each in cluster.read("namespaces")}


def kinds(rendered: Rendered) -> set[str]:
    return {each["kind"] for each in rendered.cluster[Stack.DEV]}


def stand_in_for_argo_cd() -> list[Object]:
    """What the program needs of Argo CD's manifest."""
    definitions = [each for each in custom_resource_definitions() if each["spec"]["group"] == "argoproj.io"]
    assert len(definitions) == 2
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "argocd-application-controller"}}
    return [*definitions, settings, account]


def run(program: Path) -> None:
    runpy.run_path(str(program), run_name="__main__")
