"""Secrets outside dev: External Secrets copies them from the secret store, so that none of them is ever in git.

In the store are: `database` with `password`; `redis` with `password`; `auth` with `jwt_public_keys` (PEM); `backups`
with `access_key_id` and `secret_access_key`. Both production regions read the same password of the database, because a
promoted replica has the users of the primary that it followed.
"""

from collections.abc import Mapping

from dispatchd_infra.manifests.configuration import (
    AUTH_KEY,
    AUTH_SECRET,
    DATABASE,
    DATABASE_CA_FILE,
    DATABASE_PORT,
    DATABASE_SECRET,
    DATABASE_SERVICE,
    REDIS_SECRET,
)
from dispatchd_infra.manifests.custom import custom_resource
from dispatchd_infra.manifests.labels import APPLICATION
from dispatchd_infra.manifests.postgres_cluster import ACCESS_KEY_ID, BACKUP_SECRET, SECRET_ACCESS_KEY
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common

STORE = "dispatchd"
"""The ClusterSecretStore, which the Application `stores` brings."""

API = "external-secrets.io/v1"
_REFRESH = "1h0m0s"


def objects(common: Common) -> list[Object]:
    """One for each Secret."""
    return [
        _external_secret(
            DATABASE_SECRET,
            {"password": ("database", "password")},
            {"username": DATABASE, "password": "{{ .password }}", "DATABASE_URL": _database_url(common)},
            # CloudNativePG asks for this type; with the label it changes the password in Postgres too.
            kind="kubernetes.io/basic-auth",
            labels={"cnpg.io/reload": "true"},
        ),
        _external_secret(REDIS_SECRET, {"password": ("redis", "password")}, {"REDIS_PASSWORD": "{{ .password }}"}),
        _external_secret(AUTH_SECRET, {"keys": ("auth", "jwt_public_keys")}, {AUTH_KEY: "{{ .keys }}"}),
        _external_secret(
            BACKUP_SECRET,
            {"id": ("backups", "access_key_id"), "key": ("backups", "secret_access_key")},
            {ACCESS_KEY_ID: "{{ .id }}", SECRET_ACCESS_KEY: "{{ .key }}"},
        ),
    ]


def _database_url(common: Common) -> str:
    """In a URL a password may hold any character if it is written in per cent signs; `+` would stay a plus there."""
    host = f"{DATABASE_SERVICE}.{common.namespaces.dispatchd}.svc:{DATABASE_PORT}"
    password = '{{ .password | urlquery | replace "+" "%20" }}'
    return f"postgresql://{DATABASE}:{password}@{host}/{DATABASE}?sslmode=verify-full&sslrootcert={DATABASE_CA_FILE}"


def _external_secret(
    name: str,
    read: Mapping[str, tuple[str, str]],
    written: Mapping[str, str],
    *,
    kind: str = "Opaque",
    labels: Mapping[str, str] | None = None,
) -> Object:
    """`read` gives names to properties of entries of the store; `written` are the keys of the Secret, by those names.

    Defaults are written out, because Argo CD would take those that the operator adds for a difference.
    """
    template = {
        "type": kind,
        "engineVersion": "v2",
        "mergePolicy": "Replace",
        "metadata": {"labels": labels} if labels else None,
        "data": written,
    }
    spec = {
        "refreshInterval": _REFRESH,
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORE},
        "target": {"name": name, "creationPolicy": "Owner", "deletionPolicy": "Retain", "template": template},
        "data": [
            {"secretKey": key, "remoteRef": {"key": entry, "property": property_}}
            for key, (entry, property_) in read.items()
        ],
    }
    return custom_resource(API, "ExternalSecret", APPLICATION, spec, wave=Wave.SECRETS, name=name)
