"""CustomResourceDefinitions for the API server of the tests, built from the vendored schemas in tests/schemas."""

import json
from pathlib import Path
from typing import Any

from dispatchd_infra.objects import Object

SCHEMAS = Path(__file__).parent.parent / "schemas"

_PLURALS = {
    "argoproj.io_application_v1alpha1": ("Application", "applications"),
    "argoproj.io_appproject_v1alpha1": ("AppProject", "appprojects"),
    "barmancloud.cnpg.io_objectstore_v1": ("ObjectStore", "objectstores"),
    "cert-manager.io_certificate_v1": ("Certificate", "certificates"),
    "cert-manager.io_clusterissuer_v1": ("ClusterIssuer", "clusterissuers"),
    "cert-manager.io_issuer_v1": ("Issuer", "issuers"),
    "external-secrets.io_clustersecretstore_v1": ("ClusterSecretStore", "clustersecretstores"),
    "external-secrets.io_externalsecret_v1": ("ExternalSecret", "externalsecrets"),
    "keda.sh_scaledobject_v1alpha1": ("ScaledObject", "scaledobjects"),
    "keda.sh_triggerauthentication_v1alpha1": ("TriggerAuthentication", "triggerauthentications"),
    "monitoring.coreos.com_podmonitor_v1": ("PodMonitor", "podmonitors"),
    "monitoring.coreos.com_prometheusrule_v1": ("PrometheusRule", "prometheusrules"),
    "monitoring.coreos.com_servicemonitor_v1": ("ServiceMonitor", "servicemonitors"),
    "postgresql.cnpg.io_cluster_v1": ("Cluster", "clusters"),
    "postgresql.cnpg.io_pooler_v1": ("Pooler", "poolers"),
    "postgresql.cnpg.io_scheduledbackup_v1": ("ScheduledBackup", "scheduledbackups"),
}
"""How a kind is written, and its plural; a schema has neither."""

_OF_A_CLUSTER = {"ClusterIssuer", "ClusterSecretStore"}
_WITHOUT_STATUS = {"Application", "AppProject"}
_SCALED = {"Cluster", "Pooler"}


def custom_resource_definitions() -> list[Object]:
    """One for each schema. A schema whose kind is not known here is refused with a KeyError."""
    return [_definition(path) for path in sorted(SCHEMAS.glob("*.json"))]


def _definition(path: Path) -> Object:
    kind, plural = _PLURALS[path.stem]
    group, _, version = path.stem.split("_")
    subresources: dict[str, dict[str, Any]] = {}
    if kind not in _WITHOUT_STATUS:
        subresources["status"] = {}
    if kind in _SCALED:
        subresources["scale"] = {"specReplicasPath": ".spec.instances", "statusReplicasPath": ".status.instances"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster" if kind in _OF_A_CLUSTER else "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": json.loads(path.read_bytes())},
                    "subresources": subresources,
                }
            ],
        },
    }
