"""What a cluster has before Argo CD: namespaces with their rules and bounds, and priority classes.

`infra render-cluster` prints these objects and those of `access`, and the program `infra/clusters` applies the same.
"""

from collections.abc import Sequence

from pulumi_kubernetes.core.v1 import NamespaceArgs, ResourceQuotaArgs, ResourceQuotaSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.scheduling.v1 import PriorityClassArgs

from dispatchd_infra.manifests import access
from dispatchd_infra.manifests.labels import APPLICATION, DATASTORE_PRIORITY, PART_OF, ROLE_PRIORITY
from dispatchd_infra.manifests.migrate import CAPACITY as MIGRATE
from dispatchd_infra.manifests.postgres_cluster import SIDECAR
from dispatchd_infra.manifests.quantities import mebibytes, millicores
from dispatchd_infra.objects import Object, object_of
from dispatchd_infra.settings import Capacity, Common, Environment, ScaledRole

_PODS_OF_AN_ADDON = 30
_QUOTA = "dispatchd"
_ROOM = 4
"""A quarter more than what is rendered, so that a pod that is replaced and a setting that is raised still fit."""


def objects(common: Common, environment: Environment) -> list[Object]:
    """All of them, in the order they need: the namespaces come before what is in them."""
    addons = addon_namespaces(common, environment)
    namespaces = [common.namespaces.dispatchd, common.namespaces.argocd, *addons]
    quotas = [
        _quota(common.namespaces.dispatchd, _most(environment)),
        *(_quota(each, {"pods": str(_PODS_OF_AN_ADDON)}) for each in (common.namespaces.argocd, *addons)),
    ]
    return [
        *(_namespace(name) for name in namespaces),
        *quotas,
        *_priority_classes(),
        *access.objects(common, environment),
    ]


def addon_namespaces(common: Common, environment: Environment) -> list[str]:
    """The namespaces of the operators; dev has none."""
    if environment.is_development:
        return []
    addons = common.addons
    charts = (
        addons.cert_manager,
        addons.cloudnative_pg,
        addons.barman_cloud,
        addons.external_secrets,
        addons.keda,
        addons.prometheus,
    )
    return sorted({chart.namespace for chart in charts})


def _namespace(name: str) -> Object:
    """Restricted everywhere: a pod that asks for more is refused, and is named before in a warning."""
    modes = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return object_of(
        NamespaceArgs(
            api_version="v1",
            kind="Namespace",
            metadata=ObjectMetaArgs(name=name, labels={PART_OF: APPLICATION, **modes}),
        )
    )


def _quota(namespace: str, hard: dict[str, str]) -> Object:
    return object_of(
        ResourceQuotaArgs(
            api_version="v1",
            kind="ResourceQuota",
            metadata=ObjectMetaArgs(name=_QUOTA, namespace=namespace, labels={PART_OF: APPLICATION}),
            spec=ResourceQuotaSpecArgs(hard=hard),
        )
    )


def _most(environment: Environment) -> dict[str, str]:
    """The bounds of the namespace of dispatchd: every role at its largest, in the middle of a rolling update."""
    pods = _pods(environment)
    instances = environment.database.instances + 1
    storage = instances * mebibytes(environment.database.storage)
    containers = [*pods, (instances, SIDECAR)]
    memory = f"{_with_room(sum(count * mebibytes(size.memory) for count, size in containers))}Mi"
    return {
        "pods": str(_with_room(sum(count for count, _ in pods))),
        "requests.cpu": f"{_with_room(sum(count * millicores(size.cpu) for count, size in containers))}m",
        "requests.memory": memory,
        "limits.memory": memory,
        "persistentvolumeclaims": str(instances),
        "requests.storage": f"{storage}Mi",
    }


def _pods(environment: Environment) -> Sequence[tuple[int, Capacity]]:
    """How many pods there may be of each size. One more of each, because an old and a new one run at once; the one more
    of Postgres makes the volume of a new instance."""
    roles = environment.roles
    scaled: list[ScaledRole] = [roles.control_plane, roles.worker_gateway]
    return [
        *((role.max_replicas + 1, role) for role in scaled),
        (roles.scheduler.replicas + 1, roles.scheduler),
        (2, MIGRATE),
        (2, environment.redis),
        (environment.database.instances + 1, environment.database),
    ]


def _with_room(number: int) -> int:
    return number + -(-number // _ROOM)


def _priority_classes() -> list[Object]:
    return [
        _priority_class(DATASTORE_PRIORITY, 200_000, "Postgres and Redis of dispatchd, which its roles wait for."),
        _priority_class(ROLE_PRIORITY, 100_000, "The roles of dispatchd, which the workers of users wait for."),
    ]


def _priority_class(name: str, value: int, description: str) -> Object:
    return object_of(
        PriorityClassArgs(
            api_version="scheduling.k8s.io/v1",
            kind="PriorityClass",
            metadata=ObjectMetaArgs(name=name, labels={PART_OF: APPLICATION}),
            value=value,
            description=description,
        )
    )
