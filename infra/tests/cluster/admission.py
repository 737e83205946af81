"""Waits until controllers have made every pod that workloads ask for, which shows that admission lets them in."""

from collections.abc import Iterable, Iterator, Mapping

from cluster.cluster import Cluster, Refused
from dispatchd_infra.objects import Object

_WORKLOADS = ("Deployment", "StatefulSet", "Job")
_OTHERS = ("DaemonSet", "CronJob", "ReplicaSet", "Pod")


def workloads(objects: Iterable[Object]) -> Iterator[Object]:
    """The objects that make pods. Raises AssertionError for a kind that these tests do not wait for."""
    for each in objects:
        assert each["kind"] not in _OTHERS, f"these tests don't know how many pods a {each['kind']} makes"
        if each["kind"] in _WORKLOADS:
            yield each


def most_replicas(objects: Iterable[Object]) -> Mapping[str, int]:
    """How many replicas the autoscalers may ask for, by the name of the Deployment."""
    return {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicas"]
        for each in objects
        if each["kind"] == "HorizontalPodAutoscaler"
    }


def await_pods(cluster: Cluster, workload: Object, pods: int | None = None) -> None:
    """Waits until the workload has these pods, or as many as it asks for.

    Raises AssertionError with the reasons for which the API server refused any.
    """
    match workload["kind"]:
        case "Job":
            path, wanted = ".status.active", workload["spec"].get("parallelism", 1)
        case "StatefulSet" if workload["spec"].get("podManagementPolicy") != "Parallel":
            # The second pod comes when the first one is ready, and here no pod ever runs.
            path, wanted = ".status.replicas", min(1, workload["spec"].get("replicas", 1))
        case _:
            path, wanted = ".status.replicas", workload["spec"].get("replicas", 1)
    try:
        cluster.wait(workload, path, wanted if pods is None else pods)
    except Refused as exc:
        name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
        refusals = "\n".join(sorted(set(_refusals(cluster, namespace))))
        raise AssertionError(
            f"{workload['kind']} {name} lacks pods. {exc}\nRefused in {namespace}:\n{refusals}"
        ) from exc


def _refusals(cluster: Cluster, namespace: str) -> Iterator[str]:
    for event in cluster.read("events", namespace):
        if event["reason"] == "FailedCreate":
            yield event["message"]
