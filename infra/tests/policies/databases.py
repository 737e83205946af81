"""What Postgres of CloudNativePG must have, whoever changes its settings."""

from collections.abc import Iterator

from dispatchd_infra.settings import Stack
from rendered import Objects, each_overlay, name_of, of_kind


@each_overlay
def databases_have_no_superuser_with_a_password(stack: Stack, objects: Objects) -> Iterator[str]:
    """With one, whoever reads its Secret could do anything in the database, over the network."""
    for cluster in of_kind(objects, "Cluster"):
        if cluster["spec"].get("enableSuperuserAccess") is not False:
            yield f"{name_of(cluster)}: enableSuperuserAccess must be false"


@each_overlay
def databases_outlive_drained_nodes(stack: Stack, objects: Objects) -> Iterator[str]:
    """The operator's budgets keep a drain from taking the primary before another instance is one, and no two instances
    share a node."""
    for cluster in of_kind(objects, "Cluster"):
        spec = cluster["spec"]
        if spec.get("enablePDB") is not True:
            yield f"{name_of(cluster)}: enablePDB must be true"
        if spec.get("instances", 1) < 2:
            yield f"{name_of(cluster)}: it has one instance, so that a drained node takes it away or can't be drained"
        affinity = spec.get("affinity", {})
        wanted = {"podAntiAffinityType": "required", "topologyKey": "kubernetes.io/hostname"}
        if not (affinity.get("enablePodAntiAffinity") and wanted.items() <= affinity.items()):
            yield f"{name_of(cluster)}: two of its instances may share a node"
