"""Ports are named, and whoever names one means a port that exists."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from rendered import Objects, each_overlay, name_of, of_kind
from workloads import Workload, all_workloads, selects, templated


@each_overlay
def ports_match(stack: Stack, objects: Objects) -> Iterator[str]:
    """Numbers stand in the pod template alone; Services, probes, monitors and network policies use the names."""
    workloads = all_workloads(objects)
    for workload in templated(objects):
        yield from _of_containers(workload)
    for service in of_kind(objects, "Service"):
        yield from _of_a_service(service, workloads)
    for monitor in of_kind(objects, "ServiceMonitor"):
        selector, services = monitor["spec"]["selector"], of_kind(objects, "Service")
        selected = [each for each in services if selects(selector, each["metadata"].get("labels", {}))]
        offered = {port.get("name") for service in selected for port in service["spec"]["ports"]}
        yield from _unless_offered(monitor, "endpoints", "no Service of its", offered)
    for monitor in of_kind(objects, "PodMonitor"):
        for workload in workloads:
            if selects(monitor["spec"]["selector"], workload.labels):
                offered = set(workload.port_names)
                yield from _unless_offered(monitor, "podMetricsEndpoints", f"not {workload}", offered)
    for policy in of_kind(objects, "NetworkPolicy"):
        yield from _of_a_network_policy(policy, workloads)


def _of_containers(workload: Workload) -> Iterator[str]:
    for name, count in Counter(workload.port_names).items():
        if not name:
            yield f"{workload}: a container port has no name"
        elif count > 1:
            yield f"{workload}: {count} container ports are named {name}"
    for container in workload.containers:
        own = [port.get("name") for port in container.get("ports", ())]
        hooks = container.get("lifecycle", {})
        checks = [container.get(probe, {}) for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
        for check in (*checks, *hooks.values()):
            for how in ("httpGet", "tcpSocket"):
                if how in check and check[how]["port"] not in own:
                    yield f"{workload}: a probe of {container['name']} uses port {check[how]['port']}, which it has not"


def _of_a_service(service: Object, workloads: list[Workload]) -> Iterator[str]:
    selected = [w for w in workloads if selects({"matchLabels": service["spec"].get("selector")}, w.labels)]
    for port in service["spec"]["ports"]:
        if not port.get("name"):
            yield f"{name_of(service)}: port {port['port']} has no name"
        # A balancer outside the cluster would probe as it says, without a client certificate.
        inside = service["spec"].get("type", "ClusterIP") == "ClusterIP"
        if inside and "appProtocol" not in port and any(each.owner["kind"] == "Deployment" for each in selected):
            yield f"{name_of(service)}: port {port['port']} has no appProtocol"
        for workload in selected:
            if port.get("targetPort") not in workload.port_names:
                yield f"{name_of(service)}: targetPort {port.get('targetPort')} is no port name of {workload}"


def _unless_offered(monitor: Object, field: str, who: str, offered: set[str | None]) -> Iterator[str]:
    for endpoint in monitor["spec"][field]:
        if endpoint.get("port") not in offered:
            yield f"{name_of(monitor)}: {who} has port {endpoint.get('port')}"


def _of_a_network_policy(policy: Object, workloads: list[Workload]) -> Iterator[str]:
    """Named ports only inside the namespace; a name that a pod lacks would let nothing through."""
    own = [each for each in workloads if selects(policy["spec"].get("podSelector"), each.labels)]
    for rule in policy["spec"].get("ingress", ()):
        yield from _unless_had(policy, rule, own)
    for rule in policy["spec"].get("egress", ()):
        inside = [peer["podSelector"] for peer in rule.get("to", ()) if set(peer) == {"podSelector"}]
        for selector in inside:
            yield from _unless_had(policy, rule, [each for each in workloads if selects(selector, each.labels)])


def _unless_had(policy: Object, rule: Mapping[str, Any], workloads: list[Workload]) -> Iterator[str]:
    for port in rule.get("ports", ()):
        for workload in workloads:
            known = (*workload.port_names, *(each["containerPort"] for each in workload.ports))
            if port["port"] not in known:
                yield f"{name_of(policy)}: {workload} has no port {port['port']}"
