"""Redis, by Valkey: one pod that keeps nothing on disk.

It is rebuildable: everything in it is a hint that the scheduler makes anew from Postgres, and while it is away the
roles work without hints. So it has no volume and no standby. Outside dev it speaks nothing but TLS.
"""

from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EmptyDirVolumeSourceArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    PodSpecArgs,
    ProbeArgs,
    SecretKeySelectorArgs,
    SecretVolumeSourceArgs,
    ServicePortArgs,
    TCPSocketActionArgs,
    VolumeArgs,
    VolumeMountArgs,
)

from dispatchd_infra.manifests.configuration import REDIS_PORT, REDIS_SECRET, REDIS_TLS_SECRET
from dispatchd_infra.manifests.labels import (
    DATASTORE_PRIORITY,
    REDIS,
)
from dispatchd_infra.manifests.pods import USER, resources, restricted_container, restricted_pod
from dispatchd_infra.manifests.quantities import mebibytes
from dispatchd_infra.manifests.single_server import server_objects
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Environment

_TLS = "/etc/valkey/tls"
_RELOAD_S = 3600
"""A renewed certificate is read again this often, without a restart."""
_MEMORY_FOR_DATA = 0.75
"""Of the container's memory; connections and buffers need the rest."""

# The settings come over standard input, because arguments can be read by everybody who sees the process.
_COMMAND = """\
exec valkey-server - "$@" <<END
requirepass "$REDIS_PASSWORD"
END
"""


def objects(common: Common, environment: Environment) -> list[Object]:
    """The pod, its account and its Service."""
    port = ServicePortArgs(name=REDIS, port=REDIS_PORT, target_port=REDIS)
    return server_objects(REDIS, _pod(common, environment), service=REDIS, port=port, claims=[])


def _pod(common: Common, environment: Environment) -> PodSpecArgs:
    # The image declares /data as a volume, which would be without a limit.
    volumes = [VolumeArgs(name=name, empty_dir=EmptyDirVolumeSourceArgs(size_limit="16Mi")) for name in ("data", "tmp")]
    if not environment.is_development:
        volumes.append(
            VolumeArgs(name="tls", secret=SecretVolumeSourceArgs(secret_name=REDIS_TLS_SECRET, default_mode=0o440))
        )
    return PodSpecArgs(
        service_account_name=REDIS,
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=DATASTORE_PRIORITY,
        security_context=restricted_pod(USER),
        termination_grace_period_seconds=10,
        volumes=volumes,
        containers=[_container(common, environment)],
    )


def _container(common: Common, environment: Environment) -> ContainerArgs:
    mounts = [VolumeMountArgs(name="data", mount_path="/data"), VolumeMountArgs(name="tmp", mount_path="/tmp")]
    if not environment.is_development:
        mounts.append(VolumeMountArgs(name="tls", mount_path=_TLS, read_only=True))
    password = SecretKeySelectorArgs(name=REDIS_SECRET, key="REDIS_PASSWORD")
    return ContainerArgs(
        name=REDIS,
        image=common.valkey.reference,
        image_pull_policy="IfNotPresent",
        command=["sh", "-c", _COMMAND, "valkey"],
        args=_arguments(environment),
        env=[EnvVarArgs(name="REDIS_PASSWORD", value_from=EnvVarSourceArgs(secret_key_ref=password))],
        ports=[ContainerPortArgs(name=REDIS, container_port=REDIS_PORT)],
        resources=resources(environment.redis),
        security_context=restricted_container(),
        liveness_probe=_probe(period_s=10, failures=3),
        readiness_probe=_probe(period_s=5, failures=2),
        volume_mounts=mounts,
    )


def _arguments(environment: Environment) -> list[str]:
    memory = f"{int(mebibytes(environment.redis.memory) * _MEMORY_FOR_DATA)}mb"
    options = {"--save": "", "--appendonly": "no", "--maxmemory": memory, "--maxmemory-policy": "noeviction"}
    if environment.is_development:
        options["--port"] = str(REDIS_PORT)
    else:
        options |= {
            "--port": "0",
            "--tls-port": str(REDIS_PORT),
            "--tls-cert-file": f"{_TLS}/tls.crt",
            "--tls-key-file": f"{_TLS}/tls.key",
            "--tls-ca-cert-file": f"{_TLS}/ca.crt",
            # Clients show a password.
            "--tls-auth-clients": "no",
            "--tls-auto-reload-interval": str(_RELOAD_S),
        }
    return [word for option in options.items() for word in option]


def _probe(*, period_s: int, failures: int) -> ProbeArgs:
    return ProbeArgs(
        tcp_socket=TCPSocketActionArgs(port=REDIS),
        period_seconds=period_s,
        timeout_seconds=3,
        failure_threshold=failures,
    )
