"""The settings of the roles: which variable has which value, and where it comes from.

::

    dispatchd-settings   config map of all roles: base, then components, then the overlay add to it
    dispatchd-region     config map with PRIMARY_REGION and REGION_EPOCH, which change together in a switch
    dispatchd-database   secret with DATABASE_URL            dispatchd-redis   secret with REDIS_PASSWORD
    files                keys and certificates, mounted below /etc/dispatchd
"""

from dataclasses import dataclass

from pulumi_kubernetes.core.v1 import (
    ConfigMapEnvSourceArgs,
    EnvFromSourceArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    SecretKeySelectorArgs,
)

from dispatchd_infra.manifests.labels import POSTGRES, REDIS
from dispatchd_infra.manifests.roles import LISTENERS, SERVING, Role
from dispatchd_infra.settings import Common, Environment

SETTINGS = "dispatchd-settings"
REGION = "dispatchd-region"
DATABASE = "dispatchd"
"""The name of the database, and of the user who owns it."""
DATABASE_SERVICE = f"{POSTGRES}-rw"
"""Leads to the pod that may write. CloudNativePG makes it, with its cluster's name in front."""
DATABASE_PORT = 5432
REDIS_PORT = 6379

DATABASE_SECRET = "dispatchd-database"
"""Its keys are DATABASE_URL, which the roles read, and `username` and `password`, which Postgres itself reads."""
REDIS_SECRET = "dispatchd-redis"
AUTH_SECRET = "dispatchd-auth"
"""Its key `jwt.pem` holds the public keys of the identity provider."""
AUTH_KEY = "jwt.pem"

REDIS_TLS_SECRET = "redis-tls"
DATABASE_CA_SECRET = f"{POSTGRES}-ca"
"""CloudNativePG makes it, with its cluster's name in front."""

FILES = "/etc/dispatchd"
DATABASE_CA_FILE = f"{FILES}/database/ca.crt"
"""What `sslrootcert` in DATABASE_URL has to be outside development."""

SHUTDOWN_TIMEOUT_S = 20
DATABASE_CONNECTIONS = 10
"""Of each process."""


@dataclass(frozen=True, slots=True)
class AddressSetting:
    """A setting whose value is the address of a server. Who reads it needs a way there."""

    variable: str
    roles: frozenset[Role]
    server: str
    """The datastore behind it; `labels.SERVER_PODS` has the label of its pods."""
    port: int


ADDRESSES = (
    AddressSetting("DATABASE_URL", frozenset(Role), POSTGRES, DATABASE_PORT),
    AddressSetting("REDIS_ADDRESS", frozenset(SERVING), REDIS, REDIS_PORT),
)
"""All of them. OTLP_ENDPOINT joins once tracing is built."""


def base_settings() -> dict[str, str]:
    """What is the same everywhere."""
    return {
        "AUDIT_LOG_ENABLED": "true",
        # Clients look up the addresses behind a headless Service anew at least this often.
        "CONNECTION_AGE": "30m",
        "DATABASE_CONNECTIONS": str(DATABASE_CONNECTIONS),
        "SHUTDOWN_TIMEOUT_SECONDS": str(SHUTDOWN_TIMEOUT_S),
    }


def environment_settings(common: Common, environment: Environment) -> dict[str, str]:
    """What an overlay adds."""
    redis = f"{REDIS}.{common.namespaces.dispatchd}.svc:{REDIS_PORT}"
    settings = {
        "APP_ENV": environment.app_env,
        "LEASE_DURATION": environment.lease_duration,
        "LOG_LEVEL": environment.log_level,
        "REDIS_ADDRESS": redis if environment.is_development else f"rediss://{redis}",
        "REGION": environment.region,
    }
    if environment.auth is not None:
        settings["AUTH_JWT_ISSUER"] = environment.auth.issuer
        settings["AUTH_JWT_AUDIENCE"] = environment.auth.audience
    return settings


def region_settings(primary_region: str, epoch: int) -> dict[str, str]:
    """Which region may change jobs; both change in one commit, so they have a config map of their own."""
    return {"PRIMARY_REGION": primary_region, "REGION_EPOCH": str(epoch)}


def auth_settings() -> dict[str, str]:
    """What the component `auth` adds."""
    return {"AUTH_ENABLED": "true", "AUTH_JWT_PUBLIC_KEY_PEM_FILE": f"{FILES}/auth/{AUTH_KEY}"}


def tls_settings() -> dict[str, str]:
    """What the component `tls` adds. The file of the database's authority is named in DATABASE_URL."""
    return {
        "REDIS_TLS_CA_FILE": f"{FILES}/redis/ca.crt",
        "TLS_CERT_FILE": f"{FILES}/tls/tls.crt",
        "TLS_CLIENT_CA_FILE": f"{FILES}/tls/ca.crt",
        "TLS_ENABLED": "true",
        "TLS_KEY_FILE": f"{FILES}/tls/tls.key",
        "TLS_REQUIRE_CLIENT_CERT": "true",
    }


def most_database_connections(environment: Environment) -> int:
    """How many the roles may hold at once: with the most replicas, and one pod more of each in a rolling update."""
    roles = environment.roles
    pods = (
        roles.control_plane.max_replicas + roles.scheduler.replicas + roles.worker_gateway.max_replicas + len(SERVING)
    )
    return pods * DATABASE_CONNECTIONS


def env_from() -> list[EnvFromSourceArgs]:
    """The config maps of every container."""
    return [EnvFromSourceArgs(config_map_ref=ConfigMapEnvSourceArgs(name=name)) for name in (SETTINGS, REGION)]


def env(role: Role) -> list[EnvVarArgs]:
    """What differs between roles, and what is secret."""
    ports = [EnvVarArgs(name=listener.variable, value=str(listener.port)) for listener in LISTENERS[role]]
    secrets = [_secret("DATABASE_URL", DATABASE_SECRET)]
    if role in SERVING:
        secrets.append(_secret("REDIS_PASSWORD", REDIS_SECRET))
    return [*ports, *secrets]


def _secret(variable: str, secret: str) -> EnvVarArgs:
    """A secret has the variable's name as its key."""
    reference = SecretKeySelectorArgs(name=secret, key=variable)
    return EnvVarArgs(name=variable, value_from=EnvVarSourceArgs(secret_key_ref=reference))
