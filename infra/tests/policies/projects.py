"""Argo CD's projects allow exactly what is rendered, no more and no less."""

from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from rendered import REPOSITORY, Rendered, name_of, of_kind, one

IN_CLUSTER = "https://kubernetes.default.svc"
_CLUSTER_SCOPED = (
    "ClusterSecretStore",
    "ClusterIssuer",
    "Namespace",
    "PriorityClass",
    "ClusterRole",
    "ClusterRoleBinding",
)


def the_project_allows_exactly_what_is_rendered(rendered: Rendered) -> Iterator[str]:
    """A kind too many could be slipped into git; a kind too few stops the sync."""
    for stack, objects in rendered.argocd.items():
        project = one(objects, "AppProject", "dispatchd")
        spec = project["spec"]
        allowed = {(each["group"], each["kind"]) for each in spec.get("namespaceResourceWhitelist", ())}
        used = {group_kind(each) for each in rendered.overlays[stack]}
        for group, kind in sorted(used - allowed):
            yield f"{stack}: AppProject dispatchd does not allow {kind} ({group or 'core'}), which is rendered"
        for group, kind in sorted(allowed - used):
            yield f"{stack}: AppProject dispatchd allows {kind} ({group or 'core'}), which is not rendered"
        if spec.get("clusterResourceWhitelist"):
            yield f"{stack}: AppProject dispatchd allows cluster-scoped kinds"
        yield from _destinations(stack, spec, {each["metadata"].get("namespace") for each in rendered.overlays[stack]})


def _destinations(stack: Stack, spec: Mapping[str, Any], namespaces: set[str | None]) -> Iterator[str]:
    allowed = {(each.get("server"), each.get("namespace")) for each in spec["destinations"]}
    used = {(IN_CLUSTER, namespace) for namespace in namespaces}
    if allowed != used:
        yield f"{stack}: AppProject dispatchd allows the destinations {allowed}, and {used} are used"


def applications_stay_in_their_project(rendered: Rendered) -> Iterator[str]:
    """Each names a project that allows its sources and its namespace, and nothing is allowed that nobody uses."""
    for stack, objects in rendered.argocd.items():
        projects = {each["metadata"]["name"]: each for each in of_kind(objects, "AppProject")}
        used: dict[str, tuple[set[str], set[str]]] = {name: (set(), set()) for name in projects}
        for application in of_kind(objects, "Application"):
            spec = application["spec"]
            if spec["project"] not in projects:
                yield f"{stack}: {name_of(application)}: there is no AppProject {spec['project']}"
                continue
            repositories, namespaces = used[spec["project"]]
            repositories.update(each["repoURL"] for each in sources_of(spec))
            namespaces.add(spec["destination"].get("namespace", ""))
            if spec["destination"].get("server") != IN_CLUSTER:
                yield f"{stack}: {name_of(application)}: its destination is not its own cluster"
            yield from _of_sources(stack, application)
        for name, (repositories, namespaces) in used.items():
            spec = projects[name]["spec"]
            if set(spec["sourceRepos"]) != repositories:
                yield f"{stack}: AppProject {name}: its sourceRepos are not those of its Applications"
            missing = namespaces - {each.get("namespace") for each in spec["destinations"]}
            if missing:
                yield f"{stack}: AppProject {name}: its destinations lack {missing}"


def _of_sources(stack: Stack, application: Object) -> Iterator[str]:
    for source in sources_of(application["spec"]):
        if "chart" in source:
            if not str(source["targetRevision"]).lstrip("v")[0].isdigit() or "*" in source["targetRevision"]:
                yield f"{stack}: {name_of(application)}: chart version {source['targetRevision']} is not pinned"
        elif not (REPOSITORY / source["path"]).is_dir():
            yield f"{stack}: {name_of(application)}: there is no folder {source['path']}"


def cluster_kinds_are_listed_by_hand(rendered: Rendered) -> Iterator[str]:
    """What Argo CD applies of cluster-scoped kinds beside the charts is in the project `platform`, one by one."""
    for stack, objects in rendered.argocd.items():
        projects = {each["metadata"]["name"]: each for each in of_kind(objects, "AppProject")}
        needed = {group_kind(each) for each in of_kind(objects, *_CLUSTER_SCOPED)}
        for name, project in projects.items():
            listed = {(each["group"], each["kind"]) for each in project["spec"].get("clusterResourceWhitelist", ())}
            if any("*" in each for pair in listed for each in pair):
                yield f"{stack}: AppProject {name}: cluster kinds must be listed one by one"
            if name == "platform":
                for group, kind in sorted(needed - listed):
                    yield f"{stack}: AppProject platform does not allow {kind} ({group})"


def the_root_application_makes_only_projects_and_applications(rendered: Rendered) -> Iterator[str]:
    """Whoever may write below `argocd/` gets no other kind into a cluster than those, and no folder below is read."""
    for stack, objects in rendered.cluster.items():
        root, project = one(objects, "Application", "root")["spec"], one(objects, "AppProject", "bootstrap")["spec"]
        allowed = {each["kind"] for each in project["namespaceResourceWhitelist"]}
        if allowed != {"AppProject", "Application"} or project.get("clusterResourceWhitelist"):
            yield f"{stack}: AppProject bootstrap allows {allowed}"
        if [each["namespace"] for each in project["destinations"]] != [root["destination"]["namespace"]]:
            yield f"{stack}: AppProject bootstrap allows other namespaces than that of Argo CD"
        if root["project"] != "bootstrap" or root["source"]["path"] != f"gitops/argocd/{stack}":
            yield f"{stack}: Application root does not read gitops/argocd/{stack} in the project bootstrap"
        if root["source"].get("directory", {}).get("recurse"):
            yield f"{stack}: Application root reads the folders below too"
        own = root["destination"]["namespace"]
        kinds = {each["kind"] for each in rendered.argocd[stack] if each["metadata"].get("namespace") == own}
        if kinds - allowed:
            yield f"{stack}: gitops/argocd/{stack} has {kinds - allowed}, which the project bootstrap does not allow"


def sources_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources of an Application, one or several."""
    return [*spec.get("sources", ()), *([spec["source"]] if "source" in spec else [])]


def group_kind(value: Object) -> tuple[str, str]:
    """As projects name a kind; the group of Kubernetes' oldest kinds is empty."""
    return value["apiVersion"].rpartition("/")[0], value["kind"]
