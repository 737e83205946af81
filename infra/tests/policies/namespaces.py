"""What a cluster is prepared with fits what will run there."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from dispatchd_infra.objects import Object
from policies.scaling import scaled
from rendered import Objects, Rendered, name_of, of_kind
from workloads import Workload, templated

NAMESPACE = "dispatchd"
_UNITS = {"m": Decimal("0.001"), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40)}

Amounts = dict[str, Decimal]
"""Of what a quota counts: `pods`, `requests.cpu`, `limits.memory` and so on."""


def namespaces_are_restricted(rendered: Rendered) -> Iterator[str]:
    """Every namespace, so that no add-on brings a pod with rights that nobody looked at."""
    for stack, objects in rendered.cluster.items():
        for namespace in of_kind(objects, "Namespace"):
            labels = namespace["metadata"].get("labels", {})
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"{stack}: {name_of(namespace)} does not enforce restricted Pod Security"


def quotas_admit_every_pod(rendered: Rendered) -> Iterator[str]:
    """With all roles scaled to their most, and one pod more of each during an update."""
    for stack, objects in rendered.overlays.items():
        quotas = of_kind(rendered.cluster[stack], "ResourceQuota")
        [quota] = [each for each in quotas if each["metadata"]["namespace"] == NAMESPACE]
        needed = _needed(objects)
        for resource, limit in quota["spec"]["hard"].items():
            if needed.get(resource, Decimal(0)) > _amount(limit):
                yield f"{stack}: ResourceQuota {NAMESPACE}: {resource} {limit} is less than {needed[resource]} needed"


def _needed(objects: Objects) -> Amounts:
    total: Amounts = {}
    for workload in templated(objects):
        _add(total, _of_a_pod(workload), _most(workload, objects))
        for claim in workload.owner["spec"].get("volumeClaimTemplates", ()):
            _add(total, _claim(claim["spec"]["resources"]["requests"]["storage"]), workload.owner["spec"]["replicas"])
    for cluster in of_kind(objects, "Cluster"):
        # One pod more while an instance joins.
        _add(total, _of_an_instance(cluster, objects), cluster["spec"]["instances"] + 1)
        _add(total, _claim(cluster["spec"]["storage"]["size"]), cluster["spec"]["instances"])
    return total


def _most(workload: Workload, objects: Objects) -> int:
    spec = workload.owner["spec"]
    if workload.owner["kind"] != "Deployment":
        return int(spec.get("replicas", 1))
    scaler = scaled(objects).get(str(workload))
    most = scaler["spec"]["maxReplicas"] if scaler else spec.get("replicas", 1)
    return int(most + spec["strategy"]["rollingUpdate"]["maxSurge"])


def _of_a_pod(workload: Workload) -> Amounts:
    """Init containers run one after the other before the others, so that only the largest of them counts."""
    found: Amounts = {"pods": Decimal(1)}
    for container in workload.spec["containers"]:
        _add(found, _resources(container["resources"]), 1)
    for container in workload.spec.get("initContainers", ()):
        for resource, amount in _resources(container["resources"]).items():
            found[resource] = max(amount, found.get(resource, Decimal(0)))
    return found


def _of_an_instance(cluster: Object, objects: Objects) -> Amounts:
    """Postgres, and the sidecar that archives."""
    found = {"pods": Decimal(1), **_resources(cluster["spec"]["resources"])}
    for store in of_kind(objects, "ObjectStore"):
        _add(found, _resources(store["spec"]["instanceSidecarConfiguration"]["resources"]), 1)
        break
    return found


def _resources(resources: Mapping[str, Any]) -> Amounts:
    return {f"{what}.{name}": _amount(value) for what, named in resources.items() for name, value in named.items()}


def _claim(size: str) -> Amounts:
    return {"persistentvolumeclaims": Decimal(1), "requests.storage": _amount(size)}


def _add(total: Amounts, amounts: Amounts, times: int) -> None:
    for resource, amount in amounts.items():
        total[resource] = total.get(resource, Decimal(0)) + amount * times


def _amount(quantity: str) -> Decimal:
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return Decimal(quantity.removesuffix(unit)) * factor
    return Decimal(quantity)
