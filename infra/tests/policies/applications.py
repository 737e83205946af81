"""How Argo CD applies what is rendered: in which order, from which branch, and with what it must not touch."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from policies.projects import group_kind, sources_of
from policies.scaling import scaled
from policies.waves import wave_of
from rendered import Rendered, annotations, name_of, of_kind, one

_SYNC_OPTIONS = "argocd.argoproj.io/sync-options"


def syncs_repair_and_retry(rendered: Rendered) -> Iterator[str]:
    """Automated with self-healing and pruning, applied by the server, and retried for at least half an hour."""
    for stack, application in _applications(rendered):
        policy = application["spec"].get("syncPolicy", {})
        automated, options = policy.get("automated", {}), set(policy.get("syncOptions", ()))
        if not (automated.get("selfHeal") and automated.get("prune")):
            yield f"{stack}: {name_of(application)}: it is not automated with selfHeal and prune"
        for option in sorted({"ServerSideApply=true", "PruneLast=true"} - options):
            yield f"{stack}: {name_of(application)}: the sync option {option} is missing"
        if longest_retry_s(policy.get("retry", {})) < 1800:
            yield f"{stack}: {name_of(application)}: it retries for less than 30 minutes"


def applications_leave_what_they_applied(rendered: Rendered) -> Iterator[str]:
    """With a finalizer, a file removed by mistake would take the operators' CRDs with it, and so every database."""
    for stack, application in _applications(rendered):
        if application["metadata"].get("finalizers"):
            yield f"{stack}: {name_of(application)}: it must have no finalizer"


def custom_resources_wait_for_their_kind(rendered: Rendered) -> Iterator[str]:
    """At a first install the operators' kinds come later than the dry run of what uses them."""
    for stack, objects in rendered.overlays.items():
        for value in [*objects, *of_kind(rendered.argocd[stack], "ClusterSecretStore", "ClusterIssuer")]:
            if is_custom(value) and "SkipDryRunOnMissingResource=true" not in _options(value):
                yield f"{stack}: {name_of(value)}: sync-options lack SkipDryRunOnMissingResource=true"


def is_custom(value: Object) -> bool:
    """Whether an operator brings the kind."""
    group, _ = group_kind(value)
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


def operators_come_before_what_they_watch(rendered: Rendered) -> Iterator[str]:
    """First the charts, then secret stores and issuers, then the environment. Argo CD waits for each."""
    for stack, objects in rendered.argocd.items():
        applications = list(of_kind(objects, "Application"))
        charts = [each for each in applications if any("chart" in source for source in sources_of(each["spec"]))]
        stores = [each for each in applications if each["metadata"]["name"] == "stores"]
        environment = [one(objects, "Application", "dispatchd")]
        for before, after in ((charts, stores), ([*charts, *stores], environment)):
            for earlier, later in product(before, after):
                if wave_of(earlier) >= wave_of(later):
                    yield f"{stack}: {name_of(earlier)} does not come before {name_of(later)}"


def environments_follow_their_branch(rendered: Rendered) -> Iterator[str]:
    """Releases reach production by a branch of its own, whose pull requests are the gate."""
    for stack, application in _applications(rendered):
        for source in sources_of(application["spec"]):
            branch = "production" if stack.is_production else "main"
            if "chart" not in source and source["targetRevision"] != branch:
                yield f"{stack}: {name_of(application)} follows {source['targetRevision']}, not {branch}"


def what_autoscalers_own_is_ignored(rendered: Rendered) -> Iterator[str]:
    """Otherwise every sync would set the number of pods back; and where nothing scales, git decides it."""
    for stack, objects in rendered.argocd.items():
        application = one(objects, "Application", "dispatchd")["spec"]
        ignored = {
            f"{each['kind']} {each['name']}"
            for each in application.get("ignoreDifferences", ())
            if each["jsonPointers"] == ["/spec/replicas"]
        }
        for target in sorted(ignored ^ scaled(rendered.overlays[stack]).keys()):
            yield f"{stack}: {target} is either scaled or has its replicas ignored, and not both"
        if ignored and "RespectIgnoreDifferences=true" not in application["syncPolicy"]["syncOptions"]:
            yield f"{stack}: without RespectIgnoreDifferences=true a sync sets what is ignored"


def data_of_production_is_not_removed_unasked(rendered: Rendered) -> Iterator[str]:
    """Its database, the store of its backups and every volume: removed from git, they stay until a person agrees."""
    for stack, objects in rendered.overlays.items():
        if not stack.is_production:
            continue
        for value in of_kind(objects, "Cluster", "ObjectStore", "StatefulSet"):
            holds_data = value["kind"] != "StatefulSet" or value["spec"].get("volumeClaimTemplates")
            if holds_data and not {"Prune=confirm", "Delete=confirm"} <= _options(value):
                yield f"{stack}: {name_of(value)}: sync-options lack Prune=confirm or Delete=confirm"


def _applications(rendered: Rendered) -> Iterator[tuple[Stack, Object]]:
    """Those of an environment, and the root Application."""
    for part in (rendered.cluster, rendered.argocd):
        for stack, objects in part.items():
            for application in of_kind(objects, "Application"):
                yield stack, application


def _options(value: Object) -> set[str]:
    return set(annotations(value).get(_SYNC_OPTIONS, "").split(","))
