"""Certificates outside dev: cert-manager has them signed and renews them; who uses them reads them again."""

from collections.abc import Sequence

from dispatchd_infra.manifests.configuration import REDIS_TLS_SECRET
from dispatchd_infra.manifests.custom import custom_resource
from dispatchd_infra.manifests.labels import REDIS
from dispatchd_infra.manifests.roles import CALLED, SERVING, Role
from dispatchd_infra.manifests.security import tls_secret
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Environment

_DURATION = "2160h0m0s"
_RENEW_BEFORE = "720h0m0s"
"""Lasts 90 days, and is renewed when 30 are left."""


def objects(common: Common, environment: Environment) -> list[Object]:
    """One for each server. Those that clients call are also known by the region's own domain, and by the one that moves
    to the other region in a switch."""
    return [
        *(_certificate(environment, role, tls_secret(role), _names(common, environment, role)) for role in SERVING),
        _certificate(environment, REDIS, REDIS_TLS_SECRET, _names_in_cluster(common, REDIS)),
    ]


def _names(common: Common, environment: Environment, role: Role) -> list[str]:
    domains = [environment.domain, environment.client_domain] if role in CALLED else []
    return [*_names_in_cluster(common, role), *dict.fromkeys(f"{role}.{domain}" for domain in domains)]


def _names_in_cluster(common: Common, service: str) -> list[str]:
    """All the ways to name a Service from within the cluster."""
    namespace = common.namespaces.dispatchd
    return [
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
    ]


def _certificate(environment: Environment, part: str, secret: str, names: Sequence[str]) -> Object:
    spec = {
        "secretName": secret,
        "dnsNames": list(names),
        "duration": _DURATION,
        "renewBefore": _RENEW_BEFORE,
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "server auth"],
        "revisionHistoryLimit": 3,
        "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": environment.certificate_issuer},
    }
    return custom_resource("cert-manager.io/v1", "Certificate", part, spec, wave=Wave.SECRETS, name=secret)
