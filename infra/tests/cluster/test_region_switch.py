"""One commit that changes the active region changes the settings of every pod in both regions."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.cluster import Cluster
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import PRODUCTION, Stack
from kubectl import kustomize
from rendered import GITOPS, Rendered, of_kind

ClusterOf = Callable[[Stack], Cluster]

NAMESPACE = "dispatchd"
REGIONS = {str(stack) for stack in PRODUCTION}


@pytest.mark.parametrize("stack", PRODUCTION)
def test_every_pod_template_reads_the_new_region_settings_after_the_switch(
    stack: Stack, rendered: Rendered, cluster_of: ClusterOf, tmp_path: Path
) -> None:
    cluster = cluster_of(stack)
    cluster.delete(of_kind(rendered.overlays[stack], "Job"))
    cluster.apply(rendered.overlays[stack])
    name_before, before = region_settings(cluster)

    switched = kustomize(with_the_other_region_active(tmp_path) / "overlays" / stack)
    cluster.delete(of_kind(switched, "Job"))
    cluster.apply(switched)
    name_after, after = region_settings(cluster)

    assert name_after != name_before
    assert {before["PRIMARY_REGION"], after["PRIMARY_REGION"]} == REGIONS
    assert int(after["REGION_EPOCH"]) == int(before["REGION_EPOCH"]) + 1


def with_the_other_region_active(folder: Path) -> Path:
    """A copy of gitops/ after the commit that switches the active region."""
    gitops = folder / "gitops"
    shutil.copytree(GITOPS, gitops)
    path = gitops / "regions" / "active" / "kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    primary, epoch = re.findall(r"(?:PRIMARY_REGION|REGION_EPOCH)=([\w-]+)", text)
    (other,) = REGIONS - {primary}
    text = text.replace(f"PRIMARY_REGION={primary}", f"PRIMARY_REGION={other}")
    path.write_text(text.replace(f"REGION_EPOCH={epoch}", f"REGION_EPOCH={int(epoch) + 1}"), encoding="utf-8")
    return gitops


def region_settings(cluster: Cluster) -> tuple[str, dict[str, str]]:
    """Name and content of the one ConfigMap from which the pod templates of all roles and the hook read the region."""
    workloads = [*cluster.read("deployments", NAMESPACE), *cluster.read("jobs", NAMESPACE)]
    names = {each["metadata"]["name"]: set(region_config_maps(each["spec"]["template"]["spec"])) for each in workloads}
    assert set(names) == {"control-plane", "scheduler", "worker-gateway", "migrate"}
    (name,) = names["control-plane"]
    assert all(read == {name} for read in names.values()), f"not all pod templates read {name}: {names}"
    (found,) = (each for each in cluster.read("configmaps", NAMESPACE) if each["metadata"]["name"] == name)
    return name, found["data"]


def region_config_maps(pod: Object) -> Iterator[str]:
    """The ConfigMaps with the settings of the region that the containers of a pod read; each must read one."""
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        read = [source["configMapRef"]["name"] for source in container.get("envFrom", ()) if "configMapRef" in source]
        region = [name for name in read if name.startswith("dispatchd-region-")]
        assert len(region) == 1, f"container {container['name']} reads {read}"
        yield region[0]
