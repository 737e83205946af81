"""A real API server accepts every overlay, and its admission lets in every pod."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from cluster.admission import await_pods, most_replicas, workloads
from cluster.cluster import Cluster, Refused
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack
from rendered import Rendered, of_kind, one

ClusterOf = Callable[[Stack], Cluster]

each_environment = pytest.mark.parametrize("stack", ENVIRONMENTS)


@each_environment
def test_server_side_apply_accepts_the_overlay_and_what_argo_cd_reads(
    stack: Stack, rendered: Rendered, cluster_of: ClusterOf
) -> None:
    cluster_of(stack).apply([*rendered.argocd[stack], *rendered.overlays[stack]])


@each_environment
def test_pod_security_and_quota_admit_every_pod(stack: Stack, rendered: Rendered, cluster_of: ClusterOf) -> None:
    cluster, objects = cluster_of(stack), rendered.overlays[stack]
    cluster.apply(objects)
    for each in workloads(objects):
        await_pods(cluster, each)


@each_environment
def test_the_quota_has_room_for_a_rolling_update_of_all_roles_at_their_largest(
    stack: Stack, rendered: Rendered, cluster_of: ClusterOf
) -> None:
    cluster, objects = cluster_of(stack), rendered.overlays[stack]
    cluster.apply(objects)
    largest = most_replicas(objects)
    deployments = list(of_kind(objects, "Deployment"))
    assert deployments
    sizes = [largest.get(each["metadata"]["name"], each["spec"].get("replicas", 1)) for each in deployments]
    for deployment, size in zip(deployments, sizes, strict=True):
        cluster.scale(deployment, size)
        await_pods(cluster, deployment, size)
    for deployment, size in zip(deployments, sizes, strict=True):
        cluster.restart(deployment)
        # No pod becomes ready here, so the update stops at what it may have beside the old pods.
        await_pods(cluster, deployment, size + deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"])


@each_environment
def test_a_misspelt_field_is_refused(stack: Stack, rendered: Rendered, cluster_of: ClusterOf) -> None:
    wrong = deepcopy(one(rendered.overlays[stack], "Deployment", "control-plane"))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(Refused, match=r"unknown field .*imagePullPolice"):
        cluster_of(stack).apply([wrong], dry_run=True)


def test_a_misspelt_field_of_a_custom_resource_is_refused(rendered: Rendered, cluster_of: ClusterOf) -> None:
    wrong = deepcopy(next(of_kind(rendered.overlays[Stack.STAGING], "ExternalSecret")))
    wrong["spec"]["refreshIntervall"] = "1h"
    with pytest.raises(Refused, match=r"unknown field .*refreshIntervall"):
        cluster_of(Stack.STAGING).apply([wrong], dry_run=True)


@each_environment
def test_a_pod_that_is_not_restricted_is_refused(stack: Stack, rendered: Rendered, cluster_of: ClusterOf) -> None:
    wrong = pod(rendered, stack)
    wrong["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    cluster = cluster_of(stack)
    cluster.apply(of_kind(rendered.overlays[stack], "ServiceAccount"))
    with pytest.raises(Refused, match="violates PodSecurity"):
        cluster.apply([wrong], dry_run=True)


@each_environment
def test_a_pod_beyond_the_quota_is_refused(stack: Stack, rendered: Rendered, cluster_of: ClusterOf) -> None:
    wrong = pod(rendered, stack)
    resources = wrong["spec"]["containers"][0]["resources"]
    resources["requests"]["memory"] = resources["limits"]["memory"] = "100Ti"
    cluster = cluster_of(stack)
    cluster.apply(of_kind(rendered.overlays[stack], "ServiceAccount"))
    with pytest.raises(Refused, match="exceeded quota"):
        cluster.apply([wrong], dry_run=True)


@each_environment
def test_a_pod_like_that_of_a_role_is_let_in(stack: Stack, rendered: Rendered, cluster_of: ClusterOf) -> None:
    cluster = cluster_of(stack)
    cluster.apply(of_kind(rendered.overlays[stack], "ServiceAccount"))
    cluster.apply([pod(rendered, stack)], dry_run=True)


def pod(rendered: Rendered, stack: Stack) -> Object:
    """The pod of control-plane by itself, which admission lets in."""
    deployment = one(rendered.overlays[stack], "Deployment", "control-plane")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alone", "namespace": deployment["metadata"]["namespace"]},
        "spec": deepcopy(deployment["spec"]["template"]["spec"]),
    }
