"""One breach for each policy, or some: an object that is broken in memory, in every environment that has it.

It is broken everywhere, so that the policies that compare environments have nothing to say about it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from policies import (
    differences,
    existing,
    pods,
    ports,
    projects,
    scaling,
    secrets,
    selectors,
    waves,
)
from rendered import Policy, Rendered, of_kind, one, plain_name

_WAVE = "argocd.argoproj.io/sync-wave"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A breach of a policy; its name says what is broken."""

    policy: Policy
    breaks: Callable[[Rendered], None]

    def __str__(self) -> str:
        return f"{self.policy.__name__}-{self.breaks.__name__}"


MUTATIONS: list[Mutation] = []


def _breaks(policy: Policy) -> Callable[[Callable[[Rendered], None]], Callable[[Rendered], None]]:
    def register(mutate: Callable[[Rendered], None]) -> Callable[[Rendered], None]:
        MUTATIONS.append(Mutation(policy, mutate))
        return mutate

    return register


def _everywhere(rendered: Rendered, kind: str, name: str, mutate: Callable[[Object], object]) -> None:
    """Breaks one object in each overlay that has it; it must be in one at least."""
    found = [each for objects in rendered.overlays.values() for each in of_kind(objects, kind) if _is(each, name)]
    assert found, f"no overlay has {kind} {name}"
    for each in found:
        mutate(each)


def _is(value: Object, name: str) -> bool:
    return plain_name(value) == name


def _pod(value: Object) -> Object:
    spec: Object = value["spec"]["template"]["spec"]
    return spec


def _container(value: Object) -> Object:
    container: Object = _pod(value)["containers"][0]
    return container


# Selectors


@_breaks(selectors.selectors_match)
def service_selector_misspelt(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Service",
        "scheduler",
        lambda service: service["spec"]["selector"].update({"app.kubernetes.io/name": "schedular"}),
    )


@_breaks(selectors.selectors_match)
def spread_over_the_pods_of_another_role(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: _pod(each)["topologySpreadConstraints"][0].update(labelSelector={"matchLabels": {"a": "b"}}),
    )


# References


@_breaks(existing.references_exist)
def service_account_misspelt(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _pod(each).update(serviceAccountName="schedular"))


@_breaks(existing.references_exist)
def config_map_without_the_hash(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: _container(each)["envFrom"][0]["configMapRef"].update(name="dispatchd-settings"),
    )


@_breaks(existing.references_exist)
def key_that_the_secret_has_not(rendered: Rendered) -> None:
    def misspell(deployment: Object) -> None:
        for variable in _container(deployment)["env"]:
            if variable["name"] == "DATABASE_URL":
                variable["valueFrom"]["secretKeyRef"]["key"] = "URL"

    _everywhere(rendered, "Deployment", "scheduler", misspell)


@_breaks(existing.references_exist)
def secret_that_nobody_makes(rendered: Rendered) -> None:
    def rename(certificate: Object) -> None:
        certificate["spec"]["secretName"] = "worker-gateway-certificate"

    _everywhere(rendered, "Certificate", "worker-gateway-tls", rename)


@_breaks(existing.references_exist)
def issuer_that_is_not_there(rendered: Rendered) -> None:
    _everywhere(
        rendered, "Certificate", "worker-gateway-tls", lambda each: each["spec"]["issuerRef"].update(name="nobody")
    )


# Ports


@_breaks(ports.ports_match)
def target_port_misspelt(rendered: Rendered) -> None:
    _everywhere(rendered, "Service", "control-plane", lambda each: each["spec"]["ports"][0].update(targetPort="grcp"))


@_breaks(ports.ports_match)
def probe_of_a_port_that_is_not_there(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: _container(each)["livenessProbe"]["httpGet"].update(port="metrics"),
    )


@_breaks(ports.ports_match)
def monitor_of_a_port_that_is_not_there(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        for monitor in of_kind(objects, "ServiceMonitor"):
            monitor["spec"]["endpoints"][0]["port"] = "prometheus"


# Scaling


@_breaks(scaling.only_scaled_workloads_omit_replicas)
def replicas_beside_an_autoscaler(rendered: Rendered) -> None:
    for stack, objects in rendered.overlays.items():
        if stack is not Stack.DEV:
            one(objects, "Deployment", "worker-gateway")["spec"]["replicas"] = 2


@_breaks(scaling.only_scaled_workloads_omit_replicas)
def neither_replicas_nor_autoscaler(rendered: Rendered) -> None:
    one(rendered.overlays[Stack.DEV], "Deployment", "worker-gateway")["spec"].pop("replicas")


@_breaks(scaling.disruption_budgets_let_one_pod_go)
def budget_that_lets_nobody_go(rendered: Rendered) -> None:
    _everywhere(rendered, "PodDisruptionBudget", "scheduler", lambda each: each["spec"].update(maxUnavailable=0))


@_breaks(scaling.disruption_budgets_let_one_pod_go)
def no_budget_for_the_scheduler(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        objects[:] = [
            each for each in objects if not (each["kind"] == "PodDisruptionBudget" and _is(each, "scheduler"))
        ]


@_breaks(scaling.scaling_bounds_leave_room)
def autoscaler_with_one_bound(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "HorizontalPodAutoscaler",
        "control-plane",
        lambda each: each["spec"].update(minReplicas=each["spec"]["maxReplicas"]),
    )


@_breaks(scaling.schedulers_are_never_scaled)
def scheduler_is_scaled(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        one(objects, "Deployment", "scheduler")["spec"].pop("replicas")
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scheduler"},
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{"resource": {"name": "cpu"}}, {"resource": {"name": "memory"}}],
        }
        for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
            objects.append({**scaler, "metadata": {**scaler["metadata"], "name": "scheduler"}, "spec": spec})
            break
        else:
            one(objects, "Deployment", "scheduler")["spec"]["replicas"] = 1


# Waves


@_breaks(waves.nothing_needs_a_later_wave)
def service_that_comes_after_its_stateful_set(rendered: Rendered) -> None:
    _everywhere(rendered, "Service", "redis", lambda each: each["metadata"]["annotations"].update({_WAVE: "1"}))


@_breaks(waves.the_schema_comes_between_datastores_and_roles)
def migrate_after_the_roles(rendered: Rendered) -> None:
    _everywhere(rendered, "Job", "migrate", lambda each: each["metadata"]["annotations"].update({_WAVE: "1"}))


@_breaks(waves.the_schema_comes_between_datastores_and_roles)
def migrate_is_no_hook(rendered: Rendered) -> None:
    _everywhere(rendered, "Job", "migrate", lambda each: each["metadata"]["annotations"].pop("argocd.argoproj.io/hook"))


@_breaks(waves.generated_config_maps_come_first)
def region_leaves_argo_cd_out_of_sync(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "ConfigMap",
        "dispatchd-region",
        lambda each: each["metadata"]["annotations"].pop("argocd.argoproj.io/compare-options"),
    )


# Secrets


@_breaks(secrets.no_secret_is_rendered)
def secret_with_content(rendered: Rendered) -> None:
    def give_away(deployment: Object) -> None:
        _container(deployment)["env"].append({"name": "AUTH_JWT_SHARED_SECRET", "value": "x" * 40})

    _everywhere(rendered, "Deployment", "control-plane", give_away)


@_breaks(secrets.no_secret_is_rendered)
def password_in_a_url(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "ConfigMap",
        "dispatchd-settings",
        lambda each: each["data"].update(OTLP_ENDPOINT="https://user:s3cr3t@otlp.example:4317"),
    )


@_breaks(secrets.no_secret_is_rendered)
def clear_text_secret_for_the_cluster(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        objects.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"password": "x"}}
        )


@_breaks(secrets.mutations_are_never_allowed_by_hand)
def mutations_allowed_in_the_settings(rendered: Rendered) -> None:
    _everywhere(rendered, "ConfigMap", "dispatchd-settings", lambda each: each["data"].update(ALLOW_MUTATIONS="false"))


# Pods


@_breaks(pods.pods_are_restricted)
def writable_root(rendered: Rendered) -> None:
    _everywhere(
        rendered, "Job", "migrate", lambda each: _container(each)["securityContext"].pop("readOnlyRootFilesystem")
    )


@_breaks(pods.pods_are_restricted)
def user_root(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _pod(each)["securityContext"].update(runAsUser=0))


@_breaks(pods.pods_are_restricted)
def token_mounted(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _pod(each).pop("automountServiceAccountToken"))


@_breaks(pods.containers_are_bounded)
def memory_without_a_limit(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _container(each)["resources"]["limits"].pop("memory"))


@_breaks(pods.containers_are_bounded)
def folder_without_a_size(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _tmp(each).update(emptyDir={}))


def _tmp(value: Object) -> Object:
    volume: Object = next(each for each in _pod(value)["volumes"] if "emptyDir" in each)
    return volume


@_breaks(pods.images_are_pinned)
def image_by_tag_alone(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: _container(each).update(image="ghcr.io/dispatchd/dispatchd-scheduler:latest"),
    )


@_breaks(pods.pods_have_a_priority_and_are_spread)
def spread_over_hosts_alone(rendered: Rendered) -> None:
    _everywhere(rendered, "Deployment", "scheduler", lambda each: _pod(each)["topologySpreadConstraints"].pop(0))


@_breaks(pods.probes_find_what_a_restart_can_mend)
def liveness_depends_on_postgres(rendered: Rendered) -> None:
    def ask_the_same(deployment: Object) -> None:
        container = _container(deployment)
        container["livenessProbe"]["httpGet"] = dict(container["readinessProbe"]["httpGet"])

    _everywhere(rendered, "Deployment", "scheduler", ask_the_same)


@_breaks(pods.rolling_updates_lose_no_pod)
def one_pod_may_be_missing(rendered: Rendered) -> None:
    _everywhere(
        rendered,
        "Deployment",
        "control-plane",
        lambda each: each["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
    )


@_breaks(pods.rolling_updates_lose_no_pod)
def killed_while_draining(rendered: Rendered) -> None:
    _everywhere(
        rendered, "Deployment", "control-plane", lambda each: _pod(each).update(terminationGracePeriodSeconds=20)
    )


# Differences


@_breaks(differences.environments_differ_only_where_allowed)
def staging_lacks_a_network_policy(rendered: Rendered) -> None:
    objects = rendered.overlays[Stack.STAGING]
    objects.remove(one(objects, "NetworkPolicy", "scheduler"))


@_breaks(differences.environments_differ_only_where_allowed)
def setting_in_staging_that_production_has_not(rendered: Rendered) -> None:
    one(rendered.overlays[Stack.STAGING], "ConfigMap", "dispatchd-settings")["data"]["MAX_EXECUTION_TIME"] = "1h"


@_breaks(differences.production_regions_are_equal)
def regions_of_different_size(rendered: Rendered) -> None:
    objects = rendered.overlays[Stack.PROD_REGION_B]
    one(objects, "HorizontalPodAutoscaler", "control-plane")["spec"]["maxReplicas"] += 1


# Projects of Argo CD


def _projects(rendered: Rendered, name: str) -> list[Object]:
    return [one(objects, "AppProject", name) for objects in rendered.argocd.values()]


def _applications(rendered: Rendered) -> list[Object]:
    return [each for objects in rendered.argocd.values() for each in of_kind(objects, "Application")]


@_breaks(projects.the_project_allows_exactly_what_is_rendered)
def project_allows_a_kind_too_many(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["namespaceResourceWhitelist"].append({"group": "", "kind": "Pod"})


@_breaks(projects.the_project_allows_exactly_what_is_rendered)
def project_allows_a_kind_too_few(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["namespaceResourceWhitelist"].pop()


@_breaks(projects.applications_stay_in_their_project)
def project_allows_a_repository_that_nobody_uses(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["sourceRepos"].append("https://charts.example.org")


@_breaks(projects.applications_stay_in_their_project)
def application_of_a_project_that_is_not_there(rendered: Rendered) -> None:
    _applications(rendered)[0]["spec"]["project"] = "default"


@_breaks(projects.cluster_kinds_are_listed_by_hand)
def project_allows_all_cluster_kinds(rendered: Rendered) -> None:
    for stack, objects in rendered.argocd.items():
        if stack is not Stack.DEV:
            one(objects, "AppProject", "platform")["spec"]["clusterResourceWhitelist"] = [{"group": "*", "kind": "*"}]


@_breaks(projects.syncs_repair_and_retry)
def application_gives_up_soon(rendered: Rendered) -> None:
    for application in _applications(rendered):
        application["spec"]["syncPolicy"]["retry"]["limit"] = 3


@_breaks(projects.custom_resources_wait_for_their_kind)
def monitor_applied_before_its_kind(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        for monitor in of_kind(objects, "ServiceMonitor"):
            monitor["metadata"]["annotations"].pop("argocd.argoproj.io/sync-options")
