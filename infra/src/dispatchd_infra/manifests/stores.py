"""What a cluster has once for all namespaces: where secrets are read, and who signs certificates.

Both are the same Vault-compatible server. External Secrets logs in there as its own service account, cert-manager as
one that has no other use.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from pulumi_kubernetes.core.v1 import ServiceAccountArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs, RoleArgs, RoleBindingArgs, RoleRefArgs, SubjectArgs

from dispatchd_infra.manifests.custom import SKIP_DRY_RUN, SYNC_OPTIONS
from dispatchd_infra.manifests.external_secrets import API, STORE
from dispatchd_infra.manifests.labels import APPLICATION, PART_OF
from dispatchd_infra.objects import Object, custom_object, object_of
from dispatchd_infra.settings import Common, Environment, SecretStore

ISSUER_ACCOUNT = "dispatchd-issuer"
"""As whom cert-manager asks for signatures."""

_CERT_MANAGER = "cert-manager"
"""The service account of cert-manager itself, which its chart names after its release."""
_EXTERNAL_SECRETS = "external-secrets"
_RBAC = "rbac.authorization.k8s.io"


def objects(common: Common, environment: Environment) -> list[Object]:
    """The secret store and the issuer of an environment; none in dev, whose settings name no server."""
    store, issuer = environment.secret_store, environment.certificate_issuer
    if store is None or issuer is None:
        return []
    return [
        _cluster_wide(API, "ClusterSecretStore", STORE, _secret_store(common, store)),
        _cluster_wide("cert-manager.io/v1", "ClusterIssuer", issuer, _issuer(store)),
        *_issuer_account(common.addons.cert_manager.namespace),
    ]


def _secret_store(common: Common, store: SecretStore) -> dict[str, Any]:
    account = {"name": _EXTERNAL_SECRETS, "namespace": common.addons.external_secrets.namespace}
    return {
        # No other namespace gets these secrets by writing an ExternalSecret.
        "conditions": [{"namespaces": [common.namespaces.dispatchd]}],
        "provider": {
            "vault": {
                "server": store.server,
                "caBundle": _ca_bundle(store),
                "path": store.path,
                "version": "v2",
                "auth": {
                    "kubernetes": {"mountPath": store.mount_path, "role": store.role, "serviceAccountRef": account}
                },
            }
        },
    }


def _issuer(store: SecretStore) -> dict[str, Any]:
    login = {
        "mountPath": f"/v1/auth/{store.mount_path}",
        "role": store.role,
        # In cert-manager's own namespace, where it looks for what a ClusterIssuer refers to.
        "serviceAccountRef": {"name": ISSUER_ACCOUNT},
    }
    vault = {
        "server": store.server,
        "caBundle": _ca_bundle(store),
        "path": store.pki_path,
        "auth": {"kubernetes": login},
    }
    return {"vault": vault}


def _ca_bundle(store: SecretStore) -> str | None:
    """As both kinds want it: PEM, encoded once more. None trusts the public authorities."""
    return None if store.ca_certificates is None else b64encode(store.ca_certificates.encode()).decode()


def _issuer_account(namespace: str) -> list[Object]:
    """The account, and cert-manager's right to ask for its tokens. cert-manager's chart grants none since v1.21, and
    without it an issuer looks ready and signs nothing."""
    metadata = ObjectMetaArgs(name=ISSUER_ACCOUNT, namespace=namespace, labels={PART_OF: APPLICATION})
    tokens = PolicyRuleArgs(
        api_groups=[""], resources=["serviceaccounts/token"], resource_names=[ISSUER_ACCOUNT], verbs=["create"]
    )
    return [
        object_of(
            ServiceAccountArgs(
                api_version="v1", kind="ServiceAccount", metadata=metadata, automount_service_account_token=False
            )
        ),
        object_of(RoleArgs(api_version=f"{_RBAC}/v1", kind="Role", metadata=metadata, rules=[tokens])),
        object_of(
            RoleBindingArgs(
                api_version=f"{_RBAC}/v1",
                kind="RoleBinding",
                metadata=metadata,
                role_ref=RoleRefArgs(api_group=_RBAC, kind="Role", name=ISSUER_ACCOUNT),
                subjects=[SubjectArgs(kind="ServiceAccount", name=_CERT_MANAGER, namespace=namespace)],
            )
        ),
    ]


def _cluster_wide(api_version: str, kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    return custom_object(api_version, kind, name, spec, annotations={SYNC_OPTIONS: SKIP_DRY_RUN})
