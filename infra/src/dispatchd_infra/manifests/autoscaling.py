"""How many pods there are: chosen by an autoscaler, and how many may be away at once.

The scheduler is not scaled, because only one of its pods works. Queue depth scales the workers of users, not these
roles: see the component `worker-autoscaling`.
"""

from pulumi_kubernetes.autoscaling.v2 import (
    CrossVersionObjectReferenceArgs,
    HorizontalPodAutoscalerArgs,
    HorizontalPodAutoscalerBehaviorArgs,
    HorizontalPodAutoscalerSpecArgs,
    HPAScalingRulesArgs,
    MetricSpecArgs,
    MetricTargetArgs,
    ResourceMetricSourceArgs,
)
from pulumi_kubernetes.policy.v1 import PodDisruptionBudgetArgs, PodDisruptionBudgetSpecArgs

from dispatchd_infra.manifests.labels import metadata, selector
from dispatchd_infra.manifests.roles import SERVING, Role
from dispatchd_infra.objects import Object, object_of, patch
from dispatchd_infra.settings import ScaledRole

SCALED = (Role.CONTROL_PLANE, Role.WORKER_GATEWAY)

_CPU_PERCENT = 70
_MEMORY_PERCENT = 80
_CALM_S = 300
"""Pods are taken away when fewer have been enough for this long: each one that goes moves its workers' streams."""


def objects() -> list[Object]:
    """Autoscalers and disruption budgets. An overlay says between which bounds a role is scaled."""
    return [*(_autoscaler(role) for role in SCALED), *(_budget(role) for role in SERVING)]


def bounds(role: Role, size: ScaledRole) -> Object:
    """The patch with the bounds of an environment."""
    spec = {"minReplicas": size.min_replicas, "maxReplicas": size.max_replicas}
    return patch("autoscaling/v2", "HorizontalPodAutoscaler", role, spec)


def _autoscaler(role: Role) -> Object:
    return object_of(
        HorizontalPodAutoscalerArgs(
            api_version="autoscaling/v2",
            kind="HorizontalPodAutoscaler",
            metadata=metadata(role),
            spec=HorizontalPodAutoscalerSpecArgs(
                scale_target_ref=CrossVersionObjectReferenceArgs(api_version="apps/v1", kind="Deployment", name=role),
                min_replicas=2,
                max_replicas=4,
                metrics=[_utilization("cpu", _CPU_PERCENT), _utilization("memory", _MEMORY_PERCENT)],
                behavior=HorizontalPodAutoscalerBehaviorArgs(
                    scale_down=HPAScalingRulesArgs(stabilization_window_seconds=_CALM_S)
                ),
            ),
        )
    )


def _utilization(resource: str, percent: int) -> MetricSpecArgs:
    """The mean use of what the pods request."""
    target = MetricTargetArgs(type="Utilization", average_utilization=percent)
    return MetricSpecArgs(type="Resource", resource=ResourceMetricSourceArgs(name=resource, target=target))


def _budget(role: Role) -> Object:
    """One pod at a time may be moved away. One that is not ready may go always: nobody misses it."""
    return object_of(
        PodDisruptionBudgetArgs(
            api_version="policy/v1",
            kind="PodDisruptionBudget",
            metadata=metadata(role),
            spec=PodDisruptionBudgetSpecArgs(
                max_unavailable=1, selector=selector(role), unhealthy_pod_eviction_policy="AlwaysAllow"
            ),
        )
    )
