"""What a cluster has once for all namespaces: where secrets are read, and who signs certificates.

Both are the same Vault-compatible server, and each operator logs in there as its own service account.
"""

from collections.abc import Mapping
from typing import Any

from dispatchd_infra.manifests.custom import SKIP_DRY_RUN, SYNC_OPTIONS
from dispatchd_infra.manifests.external_secrets import API, STORE
from dispatchd_infra.objects import Object, custom_object
from dispatchd_infra.settings import Common, Environment


def objects(common: Common, environment: Environment) -> list[Object]:
    """The ClusterSecretStore and the ClusterIssuer of an environment; none in dev, whose settings name no server."""
    store, issuer = environment.secret_store, environment.certificate_issuer
    if store is None or issuer is None:
        return []
    secret_store = {
        # No other namespace gets these secrets by writing an ExternalSecret.
        "conditions": [{"namespaces": [common.namespaces.dispatchd]}],
        "provider": {
            "vault": {
                "server": store.server,
                "path": store.path,
                "version": "v2",
                "auth": {
                    "kubernetes": {
                        "mountPath": store.mount_path,
                        "role": store.role,
                        "serviceAccountRef": {
                            "name": "external-secrets",
                            "namespace": common.addons.external_secrets.namespace,
                        },
                    }
                },
            }
        },
    }
    cluster_issuer = {
        "vault": {
            "server": store.server,
            "path": store.pki_path,
            "auth": {
                "kubernetes": {
                    "mountPath": f"/v1/auth/{store.mount_path}",
                    "role": store.role,
                    # In cert-manager's own namespace, where its chart allows it to ask for this account's tokens.
                    "serviceAccountRef": {"name": "cert-manager"},
                }
            },
        }
    }
    return [
        _cluster_wide(API, "ClusterSecretStore", STORE, secret_store),
        _cluster_wide("cert-manager.io/v1", "ClusterIssuer", issuer, cluster_issuer),
    ]


def _cluster_wide(api_version: str, kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    return custom_object(api_version, kind, name, spec, annotations={SYNC_OPTIONS: SKIP_DRY_RUN})
