"""Patches that give the roles keys and certificates, as files below /etc/dispatchd."""

from dataclasses import dataclass

from dispatchd_infra.manifests.configuration import AUTH_KEY, AUTH_SECRET, DATABASE_CA_SECRET, FILES, REDIS_TLS_SECRET
from dispatchd_infra.manifests.roles import CALLED, LISTENERS, SERVING, Role
from dispatchd_infra.objects import Object, patch

_READABLE_BY_GROUP = 0o440


@dataclass(frozen=True, slots=True)
class _Files:
    """Keys of a secret, as files in a folder."""

    name: str
    secret: str
    keys: tuple[str, ...]


def tls_secret(role: Role) -> str:
    """The secret with a role's own certificate, its key and the authority of its clients."""
    return f"{role}-tls"


def auth_patches() -> list[Object]:
    """Give every role the keys that tokens are checked with. All roles read all settings, so all have to have them."""
    return [_mounting(role, [_Files("auth", AUTH_SECRET, (AUTH_KEY,))]) for role in SERVING]


def tls_patches() -> list[Object]:
    """Give every role its certificate, and the authorities of the servers that it reaches."""
    database = _Files("database", DATABASE_CA_SECRET, ("ca.crt",))
    redis = _Files("redis", REDIS_TLS_SECRET, ("ca.crt",))
    serving = [
        _mounting(role, [_Files("tls", tls_secret(role), ("tls.crt", "tls.key", "ca.crt")), database, redis])
        for role in SERVING
    ]
    return [*serving, _mounting(Role.MIGRATE, [database]), *(_encrypted_service(role) for role in CALLED)]


def _encrypted_service(role: Role) -> Object:
    """Says that gRPC is behind TLS, to whom it may concern between client and pod."""
    [grpc] = [listener for listener in LISTENERS[role] if listener.for_clients]
    return patch("v1", "Service", role, {"ports": [{"port": grpc.port, "appProtocol": "https"}]})


def _mounting(role: Role, files: list[_Files]) -> Object:
    mounts = [{"mountPath": f"{FILES}/{each.name}", "name": each.name, "readOnly": True} for each in files]
    pod: Object = {
        "volumes": [
            {
                "name": each.name,
                "secret": {
                    "secretName": each.secret,
                    "defaultMode": _READABLE_BY_GROUP,
                    "items": [{"key": key, "path": key} for key in each.keys],
                },
            }
            for each in files
        ]
    }
    if role is Role.MIGRATE:
        pod["initContainers"] = [{"name": "migrate", "volumeMounts": mounts}]
        pod["containers"] = [{"name": "region-apply", "volumeMounts": mounts}]
        return patch("batch/v1", "Job", role, {"template": {"spec": pod}})
    pod["containers"] = [{"name": str(role), "volumeMounts": mounts}]
    return patch("apps/v1", "Deployment", role, {"template": {"spec": pod}})
