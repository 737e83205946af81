"""Environments that differ where they must not, and clusters that are not prepared for them."""

from breaches.registry import breaks, container
from dispatchd_infra.settings import Stack
from policies import differences, namespaces
from rendered import Rendered, of_kind, one


@breaks(differences.environments_differ_only_where_allowed)
def staging_lacks_a_network_policy(rendered: Rendered) -> None:
    objects = rendered.overlays[Stack.STAGING]
    objects.remove(one(objects, "NetworkPolicy", "scheduler"))


@breaks(differences.environments_differ_only_where_allowed)
def setting_in_staging_that_production_has_not(rendered: Rendered) -> None:
    one(rendered.overlays[Stack.STAGING], "ConfigMap", "dispatchd-settings")["data"]["MAX_EXECUTION_TIME"] = "1h"


@breaks(differences.production_regions_are_equal)
def regions_of_different_size(rendered: Rendered) -> None:
    objects = rendered.overlays[Stack.PROD_REGION_B]
    one(objects, "HorizontalPodAutoscaler", "control-plane")["spec"]["maxReplicas"] += 1


@breaks(differences.production_regions_are_equal)
def regions_with_different_redis(rendered: Rendered) -> None:
    own = container(one(rendered.overlays[Stack.PROD_REGION_B], "StatefulSet", "redis"))
    own["image"] = own["image"].replace("sha256:", "sha256:0")[: len(own["image"])]


@breaks(namespaces.namespaces_are_restricted)
def namespace_for_privileged_pods(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        one(objects, "Namespace", "argocd")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"


@breaks(namespaces.quotas_admit_every_pod)
def quota_for_the_fewest_pods_alone(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        for quota in of_kind(objects, "ResourceQuota"):
            if quota["metadata"]["namespace"] == "dispatchd":
                quota["spec"]["hard"]["pods"] = "5"
