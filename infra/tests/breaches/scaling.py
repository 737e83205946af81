"""Wrong numbers of pods."""

from copy import deepcopy

from breaches.registry import breaks, everywhere, is_named
from dispatchd_infra.settings import Stack
from policies import scaling
from rendered import Rendered, one


@breaks(scaling.only_scaled_workloads_omit_replicas)
def replicas_beside_an_autoscaler(rendered: Rendered) -> None:
    for stack, objects in rendered.overlays.items():
        if stack is not Stack.DEV:
            one(objects, "Deployment", "worker-gateway")["spec"]["replicas"] = 2


@breaks(scaling.only_scaled_workloads_omit_replicas)
def neither_replicas_nor_autoscaler(rendered: Rendered) -> None:
    one(rendered.overlays[Stack.DEV], "Deployment", "worker-gateway")["spec"].pop("replicas")


@breaks(scaling.disruption_budgets_let_one_pod_go)
def budget_that_lets_nobody_go(rendered: Rendered) -> None:
    everywhere(rendered, "PodDisruptionBudget", "scheduler", lambda each: each["spec"].update(maxUnavailable=0))


@breaks(scaling.disruption_budgets_let_one_pod_go)
def no_budget_for_the_scheduler(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        objects[:] = [
            each for each in objects if not (each["kind"] == "PodDisruptionBudget" and is_named(each, "scheduler"))
        ]


@breaks(scaling.scaling_bounds_leave_room)
def autoscaler_with_one_bound(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "HorizontalPodAutoscaler",
        "control-plane",
        lambda each: each["spec"].update(minReplicas=each["spec"]["maxReplicas"]),
    )


@breaks(scaling.clients_come_to_new_pods)
def connections_as_old_as_dispatchd_lets_them(rendered: Rendered) -> None:
    everywhere(rendered, "ConfigMap", "dispatchd-settings", lambda each: each["data"].pop("CONNECTION_AGE"))


@breaks(scaling.schedulers_are_never_scaled)
def scheduler_is_scaled(rendered: Rendered) -> None:
    for stack, objects in rendered.overlays.items():
        if stack is Stack.DEV:
            continue
        one(objects, "Deployment", "scheduler")["spec"].pop("replicas")
        scaler = deepcopy(one(objects, "HorizontalPodAutoscaler", "control-plane"))
        scaler["metadata"]["name"] = scaler["spec"]["scaleTargetRef"]["name"] = "scheduler"
        objects.append(scaler)
        ignored = one(rendered.argocd[stack], "Application", "dispatchd")["spec"]["ignoreDifferences"]
        ignored.append({**ignored[0], "name": "scheduler"})
