"""Pods that may too much, or end badly."""

from breaches.registry import breaks, container, everywhere, pod
from dispatchd_infra.objects import Object
from policies import pods
from rendered import Rendered


@breaks(pods.pods_are_restricted)
def writable_root(rendered: Rendered) -> None:
    everywhere(
        rendered, "Job", "migrate", lambda each: container(each)["securityContext"].pop("readOnlyRootFilesystem")
    )


@breaks(pods.pods_are_restricted)
def user_root(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: pod(each)["securityContext"].update(runAsUser=0))


@breaks(pods.pods_are_restricted)
def token_mounted(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: pod(each).pop("automountServiceAccountToken"))


@breaks(pods.containers_are_bounded)
def memory_without_a_limit(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: container(each)["resources"]["limits"].pop("memory"))


@breaks(pods.containers_are_bounded)
def folder_without_a_size(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: _tmp(each).update(emptyDir={}))


def _tmp(value: Object) -> Object:
    volume: Object = next(each for each in pod(value)["volumes"] if "emptyDir" in each)
    return volume


@breaks(pods.images_are_pinned)
def image_by_tag_alone(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: container(each).update(image="ghcr.io/dispatchd/dispatchd-scheduler:latest"),
    )


@breaks(pods.pods_have_a_priority_and_are_spread)
def spread_over_hosts_alone(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: pod(each)["topologySpreadConstraints"].pop(0))


@breaks(pods.probes_find_what_a_restart_can_mend)
def liveness_depends_on_postgres(rendered: Rendered) -> None:
    def ask_the_same(deployment: Object) -> None:
        own = container(deployment)
        own["livenessProbe"]["httpGet"] = dict(own["readinessProbe"]["httpGet"])

    everywhere(rendered, "Deployment", "scheduler", ask_the_same)


@breaks(pods.rolling_updates_lose_no_pod)
def one_pod_may_be_missing(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Deployment",
        "control-plane",
        lambda each: each["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
    )


@breaks(pods.rolling_updates_lose_no_pod)
def killed_while_draining(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "control-plane", lambda each: pod(each).update(terminationGracePeriodSeconds=20))
