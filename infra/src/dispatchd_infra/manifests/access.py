"""Who may do what in a cluster, beside Argo CD, which applies everything: people on call, and CI, which only looks.

Both are groups of the cluster's own identity provider. Neither may read a Secret.
"""

from collections.abc import Sequence

from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs, RoleArgs, RoleBindingArgs, RoleRefArgs, SubjectArgs

from dispatchd_infra.manifests.labels import APPLICATION, PART_OF
from dispatchd_infra.objects import Object, object_of
from dispatchd_infra.settings import Common, Environment

OPERATORS = "dispatchd-operators"
CI = "dispatchd-ci"
"""Names of groups, and of what they may do."""

_READ = ("get", "list", "watch")


def objects(common: Common, environment: Environment) -> list[Object]:
    """Roles and bindings in the namespaces of dispatchd and of Argo CD."""
    dispatchd, argocd = common.namespaces.dispatchd, common.namespaces.argocd
    looks = [*_look_at_workloads(), *_look_at_custom_resources(environment)]
    return [
        *_granted(OPERATORS, dispatchd, [*looks, *_act_on_workloads(), *_act_on_databases(environment)]),
        *_granted(OPERATORS, argocd, [*_look_at_applications(), *_act_on_applications()]),
        *_granted(CI, dispatchd, looks),
        *_granted(CI, argocd, _look_at_applications()),
    ]


def _look_at_workloads() -> list[PolicyRuleArgs]:
    return [
        _rule("", ["configmaps", "events", "persistentvolumeclaims", "pods", "pods/log", "services"], _READ),
        _rule("", ["resourcequotas", "serviceaccounts"], _READ),
        _rule("apps", ["deployments", "replicasets", "statefulsets"], _READ),
        _rule("autoscaling", ["horizontalpodautoscalers"], _READ),
        _rule("batch", ["jobs"], _READ),
        _rule("networking.k8s.io", ["networkpolicies"], _READ),
        _rule("policy", ["poddisruptionbudgets"], _READ),
    ]


def _look_at_custom_resources(environment: Environment) -> list[PolicyRuleArgs]:
    if environment.is_development:
        return []
    return [
        _rule("barmancloud.cnpg.io", ["objectstores"], _READ),
        _rule("cert-manager.io", ["certificates", "certificaterequests"], _READ),
        _rule("external-secrets.io", ["externalsecrets"], _READ),
        _rule("postgresql.cnpg.io", ["backups", "clusters", "scheduledbackups"], _READ),
    ]


def _act_on_workloads() -> list[PolicyRuleArgs]:
    """Restart, scale to zero, cut off the network, and run `dispatchd region` in a pod."""
    return [
        # kubectl asks by WebSocket, for which API servers want to see `get`.
        _rule("", ["pods/exec"], ["create", "get"]),
        _rule("", ["pods"], ["delete"]),
        _rule("apps", ["deployments", "deployments/scale", "statefulsets"], ["patch", "update"]),
        _rule("batch", ["jobs"], ["delete"]),
        _rule("networking.k8s.io", ["networkpolicies"], ["create", "delete", "patch", "update"]),
    ]


def _act_on_databases(environment: Environment) -> list[PolicyRuleArgs]:
    """Take a backup now, and remove a diverged cluster with its volumes, so that it can be rebuilt."""
    if environment.is_development:
        return []
    return [
        _rule("", ["persistentvolumeclaims"], ["delete"]),
        _rule("postgresql.cnpg.io", ["backups"], ["create", "delete"]),
        _rule("postgresql.cnpg.io", ["clusters"], ["delete"]),
    ]


def _look_at_applications() -> list[PolicyRuleArgs]:
    return [
        _rule("", ["pods", "pods/log", "events"], _READ),
        _rule("apps", ["deployments", "statefulsets"], _READ),
        _rule("argoproj.io", ["applications", "appprojects"], _READ),
    ]


def _act_on_applications() -> list[PolicyRuleArgs]:
    """Sync now, agree to a removal, and stop Argo CD while a region is fenced or rebuilt."""
    return [
        _rule("argoproj.io", ["applications"], ["patch", "update"]),
        _rule("apps", ["statefulsets", "statefulsets/scale"], ["patch", "update"]),
    ]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> PolicyRuleArgs:
    return PolicyRuleArgs(api_groups=[group], resources=list(resources), verbs=list(verbs))


def _granted(group: str, namespace: str, rules: list[PolicyRuleArgs]) -> list[Object]:
    metadata = ObjectMetaArgs(name=group, namespace=namespace, labels={PART_OF: APPLICATION})
    api, version = "rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1"
    return [
        object_of(RoleArgs(api_version=version, kind="Role", metadata=metadata, rules=rules)),
        object_of(
            RoleBindingArgs(
                api_version=version,
                kind="RoleBinding",
                metadata=metadata,
                role_ref=RoleRefArgs(api_group=api, kind="Role", name=group),
                subjects=[SubjectArgs(api_group=api, kind="Group", name=group)],
            )
        ),
    ]
