"""How many pods there are, and how many may be away."""

from collections.abc import Iterator
from typing import Any

from dispatchd_infra.settings import Stack
from rendered import Objects, each_overlay, name_of, of_kind, one
from workloads import Workload, selects, templated

_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


@each_overlay
def only_scaled_workloads_omit_replicas(stack: Stack, objects: Objects) -> Iterator[str]:
    """With both, every sync would throw the autoscaler's number away; with neither there is one pod, for no reason."""
    scalers = scaled(objects)
    for owner in of_kind(objects, "Deployment", "StatefulSet"):
        if name_of(owner) in scalers and "replicas" in owner["spec"]:
            yield f"{name_of(owner)}: it is scaled by {name_of(scalers[name_of(owner)])}, so it must not set replicas"
        if name_of(owner) not in scalers and "replicas" not in owner["spec"]:
            yield f"{name_of(owner)}: nothing scales it, so it must set replicas"


@each_overlay
def schedulers_are_never_scaled(stack: Stack, objects: Objects) -> Iterator[str]:
    """One scheduler leads and one stands by; more would do nothing."""
    for target, scaler in scaled(objects).items():
        if target == "Deployment scheduler":
            yield f"{name_of(scaler)}: the scheduler is not to be scaled"


@each_overlay
def disruption_budgets_let_one_pod_go(stack: Stack, objects: Objects) -> Iterator[str]:
    """Whatever has two pods at least keeps all but one when nodes are drained; one pod alone must not block a drain."""
    budgets = list(of_kind(objects, "PodDisruptionBudget"))
    for workload in templated(objects):
        if workload.owner["kind"] not in ("Deployment", "StatefulSet"):
            continue
        own = [each for each in budgets if selects(each["spec"]["selector"], workload.labels)]
        wanted = 1 if _fewest(workload, objects) >= 2 else 0
        if len(own) != wanted:
            yield f"{workload}: {len(own)} PodDisruptionBudgets take its pods, not {wanted}"
    for budget in budgets:
        spec = budget["spec"]
        if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
            yield f"{name_of(budget)}: it must say maxUnavailable 1 and no minAvailable"


@each_overlay
def scaling_bounds_leave_room(stack: Stack, objects: Objects) -> Iterator[str]:
    """An autoscaler has a lower bound of two, so that one pod may always go, and an upper one above it."""
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        if not 2 <= spec.get("minReplicas", 1) < spec["maxReplicas"]:
            yield f"{name_of(scaler)}: minReplicas must be 2 at least and less than maxReplicas"
        resources = {metric.get("resource", {}).get("name") for metric in spec.get("metrics", ())}
        if resources != {"cpu", "memory"}:
            yield f"{name_of(scaler)}: it must scale on cpu and memory"


@each_overlay
def clients_come_to_new_pods(stack: Stack, objects: Objects) -> Iterator[str]:
    """A client looks up the pods behind a headless Service when it connects. So a connection ends after half an hour at
    most, and everybody has had the choice of all pods."""
    age = one(objects, "ConfigMap", "dispatchd-settings")["data"].get("CONNECTION_AGE", "")
    if not (age.endswith("m") and age[:-1].isdecimal() and 1 <= int(age[:-1]) <= 30):
        yield f"ConfigMap dispatchd-settings: CONNECTION_AGE must be 1m to 30m, not {age or 'what dispatchd chooses'}"


def scaled(objects: Objects) -> dict[str, Any]:
    """What autoscalers scale, and who scales it."""
    targets = {}
    for scaler in of_kind(objects, *_SCALERS):
        target = scaler["spec"]["scaleTargetRef"]
        targets[f"{target.get('kind', 'Deployment')} {target['name']}"] = scaler
    return targets


def _fewest(workload: Workload, objects: Objects) -> int:
    scaler = scaled(objects).get(str(workload))
    spec = scaler["spec"] if scaler else workload.owner["spec"]
    fewest: int = spec.get("minReplicas", spec.get("minReplicaCount", spec.get("replicas", 1)))
    return fewest
