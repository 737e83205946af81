"""The pods that rendered objects make: from a template, and for Postgres by the rules of CloudNativePG."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dispatchd_infra.objects import Object
from rendered import name_of, of_kind

WITH_TEMPLATES = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods that are all alike, and the object that makes them."""

    owner: Object
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    def __str__(self) -> str:
        return name_of(self.owner)

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """Init containers too."""
        return [*self.spec.get("initContainers", ()), *self.spec.get("containers", ())]

    @property
    def port_names(self) -> list[str]:
        return [port.get("name", "") for port in self.ports]

    @property
    def ports(self) -> list[Mapping[str, Any]]:
        return [port for container in self.containers for port in container.get("ports", ())]


def templated(objects: Iterable[Object]) -> Iterator[Workload]:
    """The workloads whose pod template is rendered here."""
    for owner in of_kind(objects, *WITH_TEMPLATES):
        template = owner["spec"]["template"]
        yield Workload(owner, template["metadata"].get("labels", {}), template["spec"])


def all_workloads(objects: Iterable[Object]) -> list[Workload]:
    """Also the pods of Postgres, which CloudNativePG makes; labels and ports as its documentation lists them."""
    objects = list(objects)
    operated = [
        Workload(
            cluster,
            {"cnpg.io/cluster": cluster["metadata"]["name"], "cnpg.io/podRole": "instance"},
            {
                "containers": [
                    {
                        "name": "postgres",
                        "ports": [
                            {"name": "postgresql", "containerPort": 5432, "protocol": "TCP"},
                            {"name": "metrics", "containerPort": 9187, "protocol": "TCP"},
                            {"name": "status", "containerPort": 8000, "protocol": "TCP"},
                        ],
                    }
                ]
            },
        )
        for cluster in of_kind(objects, "Cluster")
    ]
    return [*templated(objects), *operated]


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) takes something with these labels."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", ())
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"{expression['operator']} is no operator of a label selector")
