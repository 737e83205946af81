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
        used = {_group_kind(each) for each in rendered.overlays[stack]}
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
            repositories.update(each["repoURL"] for each in _sources(spec))
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
    for source in _sources(application["spec"]):
        if "chart" in source:
            if not str(source["targetRevision"]).lstrip("v")[0].isdigit() or "*" in source["targetRevision"]:
                yield f"{stack}: {name_of(application)}: chart version {source['targetRevision']} is not pinned"
        elif not (REPOSITORY / source["path"]).is_dir():
            yield f"{stack}: {name_of(application)}: there is no folder {source['path']}"


def cluster_kinds_are_listed_by_hand(rendered: Rendered) -> Iterator[str]:
    """What Argo CD applies of cluster-scoped kinds beside the charts is in the project `platform`, one by one."""
    for stack, objects in rendered.argocd.items():
        projects = {each["metadata"]["name"]: each for each in of_kind(objects, "AppProject")}
        needed = {_group_kind(each) for each in of_kind(objects, *_CLUSTER_SCOPED)}
        for name, project in projects.items():
            listed = {(each["group"], each["kind"]) for each in project["spec"].get("clusterResourceWhitelist", ())}
            if any("*" in each for pair in listed for each in pair):
                yield f"{stack}: AppProject {name}: cluster kinds must be listed one by one"
            if name == "platform":
                for group, kind in sorted(needed - listed):
                    yield f"{stack}: AppProject platform does not allow {kind} ({group})"


def syncs_repair_and_retry(rendered: Rendered) -> Iterator[str]:
    """Automated with self-healing and pruning, applied by the server, and retried for at least half an hour."""
    for stack, objects in rendered.argocd.items():
        for application in of_kind(objects, "Application"):
            policy = application["spec"].get("syncPolicy", {})
            automated, options = policy.get("automated", {}), set(policy.get("syncOptions", ()))
            if not (automated.get("selfHeal") and automated.get("prune")):
                yield f"{stack}: {name_of(application)}: it is not automated with selfHeal and prune"
            for option in sorted({"ServerSideApply=true", "PruneLast=true"} - options):
                yield f"{stack}: {name_of(application)}: the sync option {option} is missing"
            if longest_retry_s(policy.get("retry", {})) < 1800:
                yield f"{stack}: {name_of(application)}: it retries for less than 30 minutes"


def custom_resources_wait_for_their_kind(rendered: Rendered) -> Iterator[str]:
    """At a first install the operators' kinds come later than the dry run of what uses them."""
    for stack, objects in rendered.overlays.items():
        for value in [*objects, *of_kind(rendered.argocd[stack], "ClusterSecretStore", "ClusterIssuer")]:
            options = value["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-options", "")
            if is_custom(value) and "SkipDryRunOnMissingResource=true" not in options.split(","):
                yield f"{stack}: {name_of(value)}: sync-options lack SkipDryRunOnMissingResource=true"


def is_custom(value: Object) -> bool:
    """Whether an operator brings the kind."""
    group, _ = _group_kind(value)
    return "." in group and not group.endswith(".k8s.io")


def longest_retry_s(retry: Mapping[str, Any]) -> float:
    """How long Argo CD goes on trying, in seconds: the sum of its growing pauses."""
    backoff = retry.get("backoff", {})
    pause, longest = _seconds(backoff.get("duration", "5s")), _seconds(backoff.get("maxDuration", "3m"))
    total = 0.0
    for _ in range(int(retry.get("limit", 0))):
        total += min(pause, longest)
        pause *= backoff.get("factor", 2)
    return total


def _seconds(duration: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600}
    return float(duration[:-1]) * units[duration[-1]]


def _sources(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*spec.get("sources", ()), *([spec["source"]] if "source" in spec else [])]


def _group_kind(value: Object) -> tuple[str, str]:
    return value["apiVersion"].rpartition("/")[0], value["kind"]
