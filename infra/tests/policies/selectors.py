"""Whatever selects pods or Services by labels selects some, and a controller selects only its own pods."""

from collections.abc import Iterator

from dispatchd_infra.settings import Stack
from rendered import Objects, each_overlay, name_of, of_kind
from workloads import Workload, all_workloads, selects, templated


@each_overlay
def selectors_match(stack: Stack, objects: Objects) -> Iterator[str]:
    """A selector without pods is a misspelt label: the Service has no endpoint, the budget protects nothing."""
    workloads = all_workloads(objects)
    for each in templated(objects):
        if "selector" in each.owner["spec"]:
            yield from _of_a_controller(each, workloads)
        for constraint in each.spec.get("topologySpreadConstraints", ()):
            if not selects(constraint.get("labelSelector"), each.labels):
                yield f"{each}: a topologySpreadConstraint does not select its own pods"
    for service in of_kind(objects, "Service"):
        selector = service["spec"].get("selector")
        if selector and not any(selects({"matchLabels": selector}, each.labels) for each in workloads):
            yield f"{name_of(service)}: its selector takes no pod"
    for value in of_kind(objects, "PodDisruptionBudget", "PodMonitor"):
        if not any(selects(value["spec"]["selector"], each.labels) for each in workloads):
            yield f"{name_of(value)}: its selector takes no pod"
    for policy in of_kind(objects, "NetworkPolicy"):
        if not any(selects(policy["spec"].get("podSelector"), each.labels) for each in workloads):
            yield f"{name_of(policy)}: its podSelector takes no pod"
    for monitor in of_kind(objects, "ServiceMonitor"):
        services = of_kind(objects, "Service")
        if not any(selects(monitor["spec"]["selector"], each["metadata"].get("labels", {})) for each in services):
            yield f"{name_of(monitor)}: its selector takes no Service"


def _of_a_controller(owner: Workload, workloads: list[Workload]) -> Iterator[str]:
    taken = [each for each in workloads if selects(owner.owner["spec"]["selector"], each.labels)]
    if owner not in taken:
        yield f"{owner}: its selector does not take the pods of its own template"
    for other in taken:
        if other != owner:
            yield f"{owner}: its selector takes the pods of {other} too"
