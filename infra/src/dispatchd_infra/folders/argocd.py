"""gitops/argocd/<stack>: what the root Application of an environment reads.

Argo CD goes through these waves, because it is told what a healthy Application is:

::

    projects ──▶ operators ──▶ operators that need certificates ──▶ stores ──▶ the environment
"""

from enum import IntEnum

from dispatchd_infra import addons, argo
from dispatchd_infra.emit import Folder, files
from dispatchd_infra.manifests import stores
from dispatchd_infra.manifests.autoscaling import SCALED
from dispatchd_infra.manifests.cluster import addon_namespaces
from dispatchd_infra.manifests.labels import APPLICATION
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Environment, Stack

PLACE = "gitops/argocd"
STORES = "stores"
"""A folder of its own, for what the root Application may not apply by itself."""

BOOTSTRAP, PLATFORM = "bootstrap", "platform"

_KINDS: tuple[argo.Kind, ...] = (
    ("", "ConfigMap"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("networking.k8s.io", "NetworkPolicy"),
)
_KINDS_OUTSIDE_DEVELOPMENT: tuple[argo.Kind, ...] = (
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("barmancloud.cnpg.io", "ObjectStore"),
    ("cert-manager.io", "Certificate"),
    ("external-secrets.io", "ExternalSecret"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("monitoring.coreos.com", "ServiceMonitor"),
    ("policy", "PodDisruptionBudget"),
    ("postgresql.cnpg.io", "Cluster"),
    ("postgresql.cnpg.io", "ScheduledBackup"),
)
_CLUSTER_KINDS: tuple[argo.Kind, ...] = (
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("cert-manager.io", "ClusterIssuer"),
    ("external-secrets.io", "ClusterSecretStore"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
)
_KEDA_ALSO = "kube-system"
"""KEDA's chart binds a role there, which lets its metrics server check who asks."""


class _Wave(IntEnum):
    PROJECTS = 0
    OPERATORS = 1
    OPERATORS_WITH_CERTIFICATES = 2
    STORES = 3
    ENVIRONMENT = 4


def argocd(common: Common, environment: Environment, stack: Stack) -> Folder:
    """The folder of an environment: projects and Applications, and below it what its Application `stores` applies."""
    projects = [argo.emptied_default(common, _Wave.PROJECTS), _dispatchd(common, environment)]
    applications = [_environment(common, environment, stack)]
    if not environment.is_development:
        projects.append(_platform(common, environment))
        applications += [*_operators(common), _stores(common, stack)]
    below = files(stores.objects(common, environment), stack)
    written = {
        **files([*projects, *applications], stack),
        **{f"{STORES}/{name}": text for name, text in below.items()},
    }
    return Folder(f"{PLACE}/{stack}", written)


def bootstrap(common: Common, stack: Stack) -> list[Object]:
    """The project and the root Application, which `infra/clusters` makes: from there on Argo CD reads the rest."""
    return [
        argo.project(
            common,
            BOOTSTRAP,
            description="The root Application, which makes the other projects and all Applications.",
            sources=[common.repository.url],
            namespaces=[common.namespaces.argocd],
            kinds=[("argoproj.io", "AppProject"), ("argoproj.io", "Application")],
        ),
        argo.folder_application(
            common, stack, "root", f"{PLACE}/{stack}", project=BOOTSTRAP, namespace=common.namespaces.argocd
        ),
    ]


def _dispatchd(common: Common, environment: Environment) -> Object:
    more = () if environment.is_development else _KINDS_OUTSIDE_DEVELOPMENT
    return argo.project(
        common,
        APPLICATION,
        description="The environment: only kinds that it has, and none that belongs to the whole cluster.",
        sources=[common.repository.url],
        namespaces=[common.namespaces.dispatchd],
        kinds=[*_KINDS, *more],
        wave=_Wave.PROJECTS,
    )


def _platform(common: Common, environment: Environment) -> Object:
    repositories = {each.chart.repository for each in addons.addons(common)}
    return argo.project(
        common,
        PLATFORM,
        description="The operators, from their own charts, and what a cluster has once.",
        sources=[*sorted(repositories), common.repository.url],
        namespaces=[*addon_namespaces(common, environment), _KEDA_ALSO],
        cluster_kinds=_CLUSTER_KINDS,
        wave=_Wave.PROJECTS,
    )


def _operators(common: Common) -> list[Object]:
    return [
        argo.chart_application(
            common,
            addon.chart.chart,
            addon.chart,
            addon.values,
            project=PLATFORM,
            wave=_Wave.OPERATORS_WITH_CERTIFICATES if addon.needs_certificates else _Wave.OPERATORS,
        )
        for addon in addons.addons(common)
    ]


def _stores(common: Common, stack: Stack) -> Object:
    return argo.folder_application(
        common,
        stack,
        STORES,
        f"{PLACE}/{stack}/{STORES}",
        project=PLATFORM,
        namespace=common.addons.external_secrets.namespace,
        wave=_Wave.STORES,
    )


def _environment(common: Common, environment: Environment, stack: Stack) -> Object:
    """Its wave is the last one, so that an environment that is not healthy keeps nothing else waiting."""
    scaled = () if environment.is_development else SCALED
    return argo.folder_application(
        common,
        stack,
        APPLICATION,
        f"gitops/overlays/{stack}",
        project=APPLICATION,
        namespace=common.namespaces.dispatchd,
        wave=_Wave.ENVIRONMENT,
        # How many pods these have is the autoscaler's to choose.
        ignored=[
            {"group": "apps", "kind": "Deployment", "name": role, "jsonPointers": ["/spec/replicas"]} for role in scaled
        ],
    )
