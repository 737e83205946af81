"""How every pod of dispatchd runs: restricted, probed, spread, and stopped in order."""

from pulumi_kubernetes.apps.v1 import (
    DeploymentArgs,
    DeploymentSpecArgs,
    DeploymentStrategyArgs,
    RollingUpdateDeploymentArgs,
)
from pulumi_kubernetes.core.v1 import (
    CapabilitiesArgs,
    ContainerArgs,
    ContainerPortArgs,
    EmptyDirVolumeSourceArgs,
    HTTPGetActionArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodSecurityContextArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    ProbeArgs,
    ResourceRequirementsArgs,
    SeccompProfileArgs,
    SecurityContextArgs,
    ServiceAccountArgs,
    ServiceArgs,
    ServicePortArgs,
    ServiceSpecArgs,
    SleepActionArgs,
    TopologySpreadConstraintArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from dispatchd_infra.manifests.configuration import SHUTDOWN_TIMEOUT_S, env, env_from
from dispatchd_infra.manifests.labels import NAME, ROLE_PRIORITY, labels, metadata, selector
from dispatchd_infra.manifests.roles import LISTENERS, Role, image
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object, object_of, patch
from dispatchd_infra.settings import Capacity, Common

USER = 65532
"""User and group of the images. The group may read mounted secrets."""

PRE_STOP_S = 10
"""A stopping pod goes on serving this long, until everybody has heard that it is leaving."""
STOP_MARGIN_S = 5
"""dispatchd ends itself this long after its shutdown timeout."""
GRACE_PERIOD_S = PRE_STOP_S + SHUTDOWN_TIMEOUT_S + STOP_MARGIN_S + 10

_PLACES = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")

ARCHIVE_TIMEOUT_S = 300
"""A file of the write-ahead log is archived at least this often while there is something in it."""
PROGRESS_DEADLINE_S = 4 * ARCHIVE_TIMEOUT_S
"""In the passive region new pods wait until a new schema has come with the write-ahead log: some archive timeouts."""


def service_account(role: str) -> Object:
    """The own account of a role or a server, without a token: none of them talks to Kubernetes."""
    return object_of(
        ServiceAccountArgs(
            api_version="v1",
            kind="ServiceAccount",
            metadata=metadata(role, wave=Wave.SETTINGS),
            automount_service_account_token=False,
        )
    )


def deployment(common: Common, role: Role) -> Object:
    """A role's pods. How many there are and how large they may be is said elsewhere."""
    pod = pod_spec(role, [_serving_container(common, role)])
    pod.termination_grace_period_seconds = GRACE_PERIOD_S
    pod.topology_spread_constraints = [_spread(role, key) for key in _PLACES]
    return object_of(
        DeploymentArgs(
            api_version="apps/v1",
            kind="Deployment",
            metadata=metadata(role),
            spec=DeploymentSpecArgs(
                selector=selector(role),
                strategy=DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
                ),
                min_ready_seconds=5,
                progress_deadline_seconds=PROGRESS_DEADLINE_S,
                revision_history_limit=3,
                template=PodTemplateSpecArgs(metadata=ObjectMetaArgs(labels=labels(role)), spec=pod),
            ),
        )
    )


def service(role: Role) -> Object:
    """A headless Service: its name has the address of every ready pod, and clients choose among them."""
    protocols = {"grpc": "kubernetes.io/h2c", "http": "http"}
    return object_of(
        ServiceArgs(
            api_version="v1",
            kind="Service",
            metadata=metadata(role),
            spec=ServiceSpecArgs(
                cluster_ip="None",
                selector={NAME: role},
                ports=[
                    ServicePortArgs(
                        name=listener.name,
                        port=listener.port,
                        target_port=listener.name,
                        app_protocol=protocols[listener.name],
                    )
                    for listener in LISTENERS[role]
                ],
            ),
        )
    )


def pod_spec(
    role: Role, containers: list[ContainerArgs], init_containers: list[ContainerArgs] | None = None
) -> PodSpecArgs:
    """What all pods of dispatchd have in common."""
    return PodSpecArgs(
        service_account_name=role,
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=ROLE_PRIORITY,
        security_context=restricted_pod(USER),
        volumes=[VolumeArgs(name="tmp", empty_dir=EmptyDirVolumeSourceArgs(size_limit="64Mi"))],
        init_containers=init_containers,
        containers=containers,
    )


def container(common: Common, role: Role, name: str, args: list[str]) -> ContainerArgs:
    """One command of dispatchd, in a container that may do nothing else."""
    return ContainerArgs(
        name=name,
        image=image(common, role),
        image_pull_policy="IfNotPresent",
        args=args,
        env=env(role),
        env_from=env_from(),
        security_context=restricted_container(),
        volume_mounts=[VolumeMountArgs(name="tmp", mount_path="/tmp")],
    )


def restricted_pod(user: int) -> PodSecurityContextArgs:
    """What Pod Security calls restricted: a user without rights, who owns the pod's volumes as a group."""
    return PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=user,
        run_as_group=user,
        fs_group=user,
        seccomp_profile=SeccompProfileArgs(type="RuntimeDefault"),
    )


def restricted_container() -> SecurityContextArgs:
    """A container that gains no rights, and writes to its volumes alone."""
    return SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=CapabilitiesArgs(drop=["ALL"]),
    )


def capacity(role: Role, size: Capacity, *, replicas: int | None) -> Object:
    """The patch with a role's size in an environment. Without `replicas` an autoscaler chooses them."""
    containers = [
        {
            "name": str(role),
            "resources": {"requests": {"cpu": size.cpu, "memory": size.memory}, "limits": {"memory": size.memory}},
        }
    ]
    spec: Object = {"replicas": replicas, "template": {"spec": {"containers": containers}}}
    return patch("apps/v1", "Deployment", role, spec)


def resources(size: Capacity) -> ResourceRequirementsArgs:
    """Memory is request and limit, so that a pod never has less than it may use. Processors have no limit: idle ones
    may be used by anybody."""
    return ResourceRequirementsArgs(requests={"cpu": size.cpu, "memory": size.memory}, limits={"memory": size.memory})


def _serving_container(common: Common, role: Role) -> ContainerArgs:
    serving = container(common, role, role, [role])
    serving.ports = [
        ContainerPortArgs(name=listener.name, container_port=listener.port) for listener in LISTENERS[role]
    ]
    # The HTTP port opens once Postgres has answered, or the role ends after 30 s without.
    serving.startup_probe = _probe("/livez", period_s=2, failures=30)
    serving.liveness_probe = _probe("/livez", period_s=10, failures=3)
    serving.readiness_probe = _probe("/readyz", period_s=5, failures=2)
    serving.lifecycle = LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=PRE_STOP_S)))
    return serving


def _probe(path: str, *, period_s: int, failures: int) -> ProbeArgs:
    """`/livez` asks nothing but the process itself; `/readyz` asks Postgres, for at most two seconds."""
    return ProbeArgs(
        http_get=HTTPGetActionArgs(path=path, port="http"),
        period_seconds=period_s,
        timeout_seconds=3,
        failure_threshold=failures,
    )


def _spread(role: Role, key: str) -> TopologySpreadConstraintArgs:
    """Spreads where it can: a pod in the same place as another is better than none."""
    return TopologySpreadConstraintArgs(
        label_selector=selector(role), max_skew=1, topology_key=key, when_unsatisfiable="ScheduleAnyway"
    )
