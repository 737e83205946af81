"""Projects and Applications of Argo CD that allow too much, or apply things wrongly."""

from breaches.registry import breaks
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import PRODUCTION, Stack
from policies import applications, projects
from rendered import Rendered, of_kind, one

_WAVE = "argocd.argoproj.io/sync-wave"


def _projects(rendered: Rendered, name: str) -> list[Object]:
    return [one(objects, "AppProject", name) for objects in rendered.argocd.values()]


def _applications(rendered: Rendered) -> list[Object]:
    return [each for objects in rendered.argocd.values() for each in of_kind(objects, "Application")]


@breaks(projects.the_project_allows_exactly_what_is_rendered)
def project_allows_a_kind_too_many(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["namespaceResourceWhitelist"].append({"group": "", "kind": "Pod"})


@breaks(projects.the_project_allows_exactly_what_is_rendered)
def project_allows_a_kind_too_few(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["namespaceResourceWhitelist"].pop()


@breaks(projects.applications_stay_in_their_project)
def project_allows_a_repository_that_nobody_uses(rendered: Rendered) -> None:
    for project in _projects(rendered, "dispatchd"):
        project["spec"]["sourceRepos"].append("https://charts.example.org")


@breaks(projects.applications_stay_in_their_project)
def application_of_a_project_that_is_not_there(rendered: Rendered) -> None:
    _applications(rendered)[0]["spec"]["project"] = "default"


@breaks(projects.cluster_kinds_are_listed_by_hand)
def project_allows_all_cluster_kinds(rendered: Rendered) -> None:
    for stack, objects in rendered.argocd.items():
        if stack is not Stack.DEV:
            one(objects, "AppProject", "platform")["spec"]["clusterResourceWhitelist"] = [{"group": "*", "kind": "*"}]


@breaks(applications.applications_leave_what_they_applied)
def operators_removed_with_their_application(rendered: Rendered) -> None:
    for application in _applications(rendered):
        application["metadata"]["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]


@breaks(applications.syncs_repair_and_retry)
def application_gives_up_soon(rendered: Rendered) -> None:
    for application in _applications(rendered):
        application["spec"]["syncPolicy"]["retry"]["limit"] = 3


@breaks(applications.custom_resources_wait_for_their_kind)
def monitor_applied_before_its_kind(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        for monitor in of_kind(objects, "ServiceMonitor"):
            monitor["metadata"]["annotations"].pop("argocd.argoproj.io/sync-options")


@breaks(applications.operators_come_before_what_they_watch)
def environment_applied_with_its_operators(rendered: Rendered) -> None:
    for objects in rendered.argocd.values():
        one(objects, "Application", "dispatchd")["metadata"]["annotations"][_WAVE] = "1"


@breaks(applications.environments_follow_their_branch)
def production_follows_main(rendered: Rendered) -> None:
    for stack in PRODUCTION:
        one(rendered.argocd[stack], "Application", "dispatchd")["spec"]["source"]["targetRevision"] = "main"


@breaks(applications.what_autoscalers_own_is_ignored)
def replicas_of_an_autoscaler_are_reset(rendered: Rendered) -> None:
    for stack in PRODUCTION:
        one(rendered.argocd[stack], "Application", "dispatchd")["spec"]["ignoreDifferences"].pop()


@breaks(applications.data_of_production_is_not_removed_unasked)
def database_removed_with_its_file(rendered: Rendered) -> None:
    for stack in PRODUCTION:
        cluster = one(rendered.overlays[stack], "Cluster", "postgres")
        cluster["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] = "SkipDryRunOnMissingResource=true,a=b"


@breaks(projects.the_root_application_makes_only_projects_and_applications)
def bootstrap_allows_pods(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        one(objects, "AppProject", "bootstrap")["spec"]["namespaceResourceWhitelist"].append(
            {"group": "", "kind": "Pod"}
        )


@breaks(projects.the_root_application_makes_only_projects_and_applications)
def root_reads_the_stores_itself(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        one(objects, "Application", "root")["spec"]["source"]["directory"] = {"recurse": True}
