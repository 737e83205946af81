"""Postgres in dev: one pod with a volume, which needs no operator and no custom resource.

Its password comes from the Secret that `infra dev-secret` makes. The Service has the name that CloudNativePG gives to
the way to a primary, so that DATABASE_URL names the same host in every environment.
"""

from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EmptyDirVolumeSourceArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    ExecActionArgs,
    PersistentVolumeClaimArgs,
    PersistentVolumeClaimSpecArgs,
    PodSpecArgs,
    ProbeArgs,
    SecretKeySelectorArgs,
    ServicePortArgs,
    VolumeArgs,
    VolumeMountArgs,
    VolumeResourceRequirementsArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from dispatchd_infra.manifests.configuration import (
    DATABASE,
    DATABASE_PORT,
    DATABASE_SECRET,
    DATABASE_SERVICE,
    most_database_connections,
)
from dispatchd_infra.manifests.labels import (
    DATASTORE_PRIORITY,
    POSTGRES,
)
from dispatchd_infra.manifests.pods import resources, restricted_container, restricted_pod
from dispatchd_infra.manifests.single_server import server_objects
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Environment

_USER = 999
"""The user `postgres` of the image."""
_HOME = "/var/lib/postgresql"
_SOCKETS = "/var/run/postgresql"
_MORE_CONNECTIONS = 20
"""For people who look."""


def objects(common: Common, environment: Environment) -> list[Object]:
    """The pod, its account and its Service."""
    # The API server adds version and kind to a claim without them, which Argo CD would take for a difference.
    claim = PersistentVolumeClaimArgs(
        api_version="v1",
        kind="PersistentVolumeClaim",
        metadata=ObjectMetaArgs(name="data"),
        spec=PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            resources=VolumeResourceRequirementsArgs(requests={"storage": environment.database.storage}),
        ),
    )
    pod = PodSpecArgs(
        service_account_name=POSTGRES,
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=DATASTORE_PRIORITY,
        security_context=restricted_pod(_USER),
        termination_grace_period_seconds=60,
        volumes=[
            VolumeArgs(name="sockets", empty_dir=EmptyDirVolumeSourceArgs(size_limit="16Mi")),
            VolumeArgs(name="tmp", empty_dir=EmptyDirVolumeSourceArgs(size_limit="64Mi")),
        ],
        containers=[_container(common, environment)],
    )
    port = ServicePortArgs(name="postgres", port=DATABASE_PORT, target_port="postgres")
    return server_objects(POSTGRES, pod, service=DATABASE_SERVICE, port=port, claims=[claim])


def _container(common: Common, environment: Environment) -> ContainerArgs:
    connections = most_database_connections(environment) + _MORE_CONNECTIONS
    return ContainerArgs(
        name=POSTGRES,
        image=common.postgres_dev.reference,
        image_pull_policy="IfNotPresent",
        args=["-c", f"max_connections={connections}"],
        env=[
            EnvVarArgs(name="POSTGRES_DB", value=DATABASE),
            _secret("POSTGRES_USER", "username"),
            _secret("POSTGRES_PASSWORD", "password"),
            # A folder in the volume, because the file system of a volume may have a folder of its own at its top.
            EnvVarArgs(name="PGDATA", value=f"{_HOME}/pgdata"),
        ],
        ports=[ContainerPortArgs(name="postgres", container_port=DATABASE_PORT)],
        resources=resources(environment.database),
        security_context=restricted_container(),
        startup_probe=_probe(period_s=2, failures=90),
        liveness_probe=_probe(period_s=20, failures=3),
        readiness_probe=_probe(period_s=5, failures=2),
        volume_mounts=[
            VolumeMountArgs(name="data", mount_path=_HOME),
            VolumeMountArgs(name="sockets", mount_path=_SOCKETS),
            VolumeMountArgs(name="tmp", mount_path="/tmp"),
        ],
    )


def _probe(*, period_s: int, failures: int) -> ProbeArgs:
    """Asks over TCP, where the server that fills a new volume does not listen."""
    return ProbeArgs(
        exec_=ExecActionArgs(command=["pg_isready", "--quiet", "--host=127.0.0.1", f"--dbname={DATABASE}"]),
        period_seconds=period_s,
        timeout_seconds=3,
        failure_threshold=failures,
    )


def _secret(variable: str, key: str) -> EnvVarArgs:
    reference = SecretKeySelectorArgs(name=DATABASE_SECRET, key=key)
    return EnvVarArgs(name=variable, value_from=EnvVarSourceArgs(secret_key_ref=reference))
