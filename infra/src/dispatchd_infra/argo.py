"""Argo CD's own objects: projects, which say what may be applied where, and Applications, which say what is.

::

    project     made by            allows
    ─────────   ────────────────   ──────────────────────────────────────────────────────────
    bootstrap   infra/clusters     the root Application to make projects and Applications
    platform    root Application   operators from their charts, and what a cluster has once
    dispatchd   root Application   the kinds that an environment has, in its namespace
    default     root Application   nothing

Every Application is in the cluster that it describes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dispatchd_infra.manifests.waves import in_wave_number
from dispatchd_infra.objects import Object, custom_object
from dispatchd_infra.settings import Chart, Common, Stack

API = "argoproj.io/v1alpha1"
CLUSTER = "https://kubernetes.default.svc"

Kind = tuple[str, str]
"""The API group of a kind, which is empty for Kubernetes' oldest kinds, and its name."""

RETRIES, FIRST_PAUSE_S, FACTOR, LONGEST_PAUSE_S = 12, 15, 2, 300
"""A first install has to wait for operators, images and a database: these pauses are more than 30 minutes together."""

_SYNC_OPTIONS = (
    "PruneLast=true",
    "PrunePropagationPolicy=foreground",
    "RespectIgnoreDifferences=true",
    "ServerSideApply=true",
    "SkipDryRunOnMissingResource=true",
)


def revision(common: Common, stack: Stack) -> str:
    """The branch that an environment follows: production has one of its own, whose pull requests are the releases."""
    return common.repository.production if stack.is_production else common.repository.main


def project(
    common: Common,
    name: str,
    *,
    description: str,
    sources: Sequence[str],
    namespaces: Sequence[str],
    cluster_kinds: Sequence[Kind] = (),
    kinds: Sequence[Kind] | None = None,
    wave: int | None = None,
) -> Object:
    """A project. Without `kinds` every kind that belongs to a namespace is allowed; of others only `cluster_kinds`."""
    spec = {
        "description": description,
        "sourceRepos": list(sources),
        "destinations": [{"server": CLUSTER, "namespace": namespace} for namespace in namespaces],
        "clusterResourceWhitelist": _kinds(cluster_kinds) or None,
        "namespaceResourceWhitelist": None if kinds is None else _kinds(kinds),
    }
    return _object(common, "AppProject", name, spec, wave)


def emptied_default(common: Common, wave: int) -> Object:
    """The project that Argo CD makes by itself, and that would allow everything."""
    spec = {
        "description": "Allows nothing: each Application names a project of its own.",
        "sourceRepos": [],
        "destinations": [],
        "clusterResourceWhitelist": [],
        "namespaceResourceBlacklist": [{"group": "*", "kind": "*"}],
    }
    return _object(common, "AppProject", "default", spec, wave)


def chart_application(
    common: Common, name: str, chart: Chart, values: Mapping[str, Any], *, project: str, wave: int
) -> Object:
    """Applies a Helm chart in its version."""
    source = {
        "repoURL": chart.repository,
        "chart": chart.chart,
        "targetRevision": chart.version,
        "helm": {"releaseName": name, "valuesObject": dict(values) or None},
    }
    return _application(common, name, source, project=project, namespace=chart.namespace, wave=wave)


def folder_application(
    common: Common,
    stack: Stack,
    name: str,
    path: str,
    *,
    project: str,
    namespace: str,
    wave: int | None = None,
    ignored: Sequence[Mapping[str, Any]] = (),
) -> Object:
    """Applies a folder of the repository, as the branch of the environment has it."""
    source = {"repoURL": common.repository.url, "path": path, "targetRevision": revision(common, stack)}
    return _application(common, name, source, project=project, namespace=namespace, wave=wave, ignored=ignored)


def _application(
    common: Common,
    name: str,
    source: Mapping[str, Any],
    *,
    project: str,
    namespace: str,
    wave: int | None,
    ignored: Sequence[Mapping[str, Any]] = (),
) -> Object:
    """Without a finalizer: who deletes an Application does not delete what it applied.

    With one, a file that is removed by mistake would take an operator's CRDs along, and with them every database.
    """
    spec = {
        "project": project,
        "source": source,
        "destination": {"server": CLUSTER, "namespace": namespace},
        "ignoreDifferences": list(ignored) or None,
        "syncPolicy": {
            "automated": {"enabled": True, "prune": True, "selfHeal": True},
            "syncOptions": list(_SYNC_OPTIONS),
            "retry": {
                "limit": RETRIES,
                # A commit that mends something is not kept waiting until the broken one has been tried to the end.
                "refresh": True,
                "backoff": {"duration": f"{FIRST_PAUSE_S}s", "factor": FACTOR, "maxDuration": f"{LONGEST_PAUSE_S}s"},
            },
        },
    }
    return _object(common, "Application", name, spec, wave)


def _object(common: Common, kind: str, name: str, spec: Mapping[str, Any], wave: int | None) -> Object:
    order = None if wave is None else in_wave_number(wave)
    return custom_object(API, kind, name, spec, namespace=common.namespaces.argocd, annotations=order)


def _kinds(kinds: Sequence[Kind]) -> list[dict[str, str]]:
    return [{"group": group, "kind": kind} for group, kind in sorted(kinds)]
