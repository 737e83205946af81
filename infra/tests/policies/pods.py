"""What every pod is like: restricted, bounded, spread, probed, and given time to end."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd_infra.settings import Stack
from rendered import Objects, each_overlay, name_of, of_kind
from workloads import Workload, templated


@each_overlay
def pods_are_restricted(stack: Stack, objects: Objects) -> Iterator[str]:
    """Pod Security "restricted", and beyond it a numeric user, a read-only root and no token."""
    for workload in templated(objects):
        pod = workload.spec.get("securityContext", {})
        if workload.spec.get("automountServiceAccountToken") is not False:
            yield f"{workload}: it mounts a token of its ServiceAccount"
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if workload.spec.get(field):
                yield f"{workload}: {field} is set"
        for volume in workload.spec.get("volumes", ()):
            if "hostPath" in volume:
                yield f"{workload}: volume {volume['name']} is a hostPath"
        for container in workload.containers:
            for finding in _unrestricted(pod, container.get("securityContext", {})):
                yield f"{workload}: container {container['name']} {finding}"


def _unrestricted(pod: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    both = {**pod, **own}
    if both.get("runAsNonRoot") is not True:
        yield "may run as root"
    if not isinstance(both.get("runAsUser"), int) or both["runAsUser"] == 0:
        yield "has no numeric user other than root"
    if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has not the seccomp profile RuntimeDefault"
    if own.get("capabilities") != {"drop": ["ALL"]}:
        yield "does not drop all capabilities"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if own.get("privileged"):
        yield "is privileged"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "has a writable root"


@each_overlay
def containers_are_bounded(stack: Stack, objects: Objects) -> Iterator[str]:
    """Memory request = limit, a processor request without a limit, and emptyDirs with a size."""
    for workload in templated(objects):
        for container in workload.containers:
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            if not requests.get("memory") or requests.get("memory") != limits.get("memory"):
                yield f"{workload}: container {container['name']}: memory request and limit must be there and equal"
            if not requests.get("cpu"):
                yield f"{workload}: container {container['name']}: there is no cpu request"
        for volume in workload.spec.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{workload}: emptyDir {volume['name']} has no sizeLimit"
    for cluster in of_kind(objects, "Cluster"):
        resources = cluster["spec"].get("resources", {})
        if not resources.get("limits", {}).get("memory") or "cpu" not in resources.get("requests", {}):
            yield f"{name_of(cluster)}: it has no memory limit or no cpu request"


@each_overlay
def images_are_pinned(stack: Stack, objects: Objects) -> Iterator[str]:
    """By digest, so that a tag moved in the registry changes nothing; in dev a tag other than latest is enough."""
    images = [(str(each), container["image"]) for each in templated(objects) for container in each.containers]
    images += [(name_of(each), each["spec"].get("imageName", "")) for each in of_kind(objects, "Cluster")]
    for owner, image in images:
        if re.search(r"@sha256:[0-9a-f]{64}$", image):
            continue
        tag = image.rpartition("/")[2].partition(":")[2]
        if stack is not Stack.DEV or tag in ("", "latest"):
            yield f"{owner}: image {image} is not pinned by digest"


@each_overlay
def pods_have_a_priority_and_are_spread(stack: Stack, objects: Objects) -> Iterator[str]:
    """A zone or host that is lost takes only some of the pods of a role with it."""
    for workload in templated(objects):
        if "priorityClassName" not in workload.spec:
            yield f"{workload}: it has no priorityClassName"
        if workload.owner["kind"] != "Deployment" or stack is Stack.DEV:
            continue
        over = {each["topologyKey"] for each in workload.spec.get("topologySpreadConstraints", ())}
        if over != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{workload}: it is not spread over zone and host"


@each_overlay
def probes_find_what_a_restart_can_mend(stack: Stack, objects: Objects) -> Iterator[str]:
    """Liveness and readiness ask different paths, for only readiness may depend on Postgres."""
    for workload in templated(objects):
        if workload.owner["kind"] not in ("Deployment", "StatefulSet"):
            continue
        for container in workload.spec["containers"]:
            probes = {each: container.get(f"{each}Probe") for each in ("liveness", "readiness", "startup")}
            needed = probes if workload.owner["kind"] == "Deployment" else ("liveness", "readiness")
            for missing in (each for each in needed if not probes[each]):
                yield f"{workload}: container {container['name']} has no {missing}Probe"
            liveness, readiness = probes["liveness"], probes["readiness"]
            if liveness and readiness and "httpGet" in liveness and liveness["httpGet"] == readiness.get("httpGet"):
                yield f"{workload}: liveness asks what readiness asks"


@each_overlay
def rolling_updates_lose_no_pod(stack: Stack, objects: Objects) -> Iterator[str]:
    """A new pod is ready before an old one goes, and a pod that goes has the time to finish.

    In a passive region new pods wait for the schema to arrive through the archive, 5 minutes a segment at most, so that
    a rollout may take more than three of them.
    """
    for deployment in of_kind(objects, "Deployment"):
        spec = deployment["spec"]
        rolling = spec.get("strategy", {}).get("rollingUpdate", {})
        if (rolling.get("maxSurge"), rolling.get("maxUnavailable")) != (1, 0):
            yield f"{name_of(deployment)}: its rolling update is not maxSurge 1, maxUnavailable 0"
        if spec.get("progressDeadlineSeconds", 600) <= 3 * 300:
            yield f"{name_of(deployment)}: progressDeadlineSeconds must exceed 900, three archive timeouts"
    for workload in templated(objects):
        if workload.owner["kind"] == "Deployment":
            yield from _ends_too_soon(workload, objects)


def _ends_too_soon(workload: Workload, objects: Objects) -> Iterator[str]:
    grace = workload.spec.get("terminationGracePeriodSeconds", 30)
    for container in workload.spec["containers"]:
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = int(setting(container, objects, "SHUTDOWN_TIMEOUT_SECONDS") or 10)
        if pause < 1:
            yield f"{workload}: container {container['name']} has no preStop sleep"
        if grace <= pause + drain:
            yield f"{workload}: terminationGracePeriodSeconds {grace} is no longer than sleep {pause} + drain {drain}"


def setting(container: Mapping[str, Any], objects: Objects, name: str) -> str | None:
    """The value of a variable of a container, from its own list or its ConfigMaps; None if it is not set there."""
    for variable in container.get("env", ()):
        if variable["name"] == name:
            value: str | None = variable.get("value")
            return value
    for source in reversed(container.get("envFrom", ())):
        for each in of_kind(objects, "ConfigMap"):
            if each["metadata"]["name"] == source.get("configMapRef", {}).get("name") and name in each["data"]:
                found: str = each["data"][name]
                return found
    return None
