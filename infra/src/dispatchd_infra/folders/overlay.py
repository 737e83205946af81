"""gitops/overlays/<stack>: what one environment adds to the base, and chooses of the components."""

from dispatchd_infra import kustomize
from dispatchd_infra.emit import Folder, document, files
from dispatchd_infra.manifests import (
    autoscaling,
    certificates,
    configuration,
    dev_postgres,
    expose,
    network,
    pods,
    postgres_cluster,
    redis,
)
from dispatchd_infra.manifests.roles import Role
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Environment, FixedRole, ScaledRole, Stack

IMAGES = "images"
"""The folder, within an overlay, that only `infra promote-image` writes."""

_REGIONS = "../../regions"
"""What a region switch moves, which only `infra promote-region` writes: in `active` which region is the primary, for
both, and in `database/<stack>` the database of each."""

_OUTSIDE_DEVELOPMENT = ["auth", "external-secrets", "ha", "observability", "postgres-cluster", "tls"]


def overlay(common: Common, environment: Environment, stack: Stack) -> Folder:
    """The folder of an environment. Its images are somebody else's to write."""
    objects = files(_objects(common, environment, stack), stack)
    patches = files(_patches(environment), stack, kustomize.PATCH)
    kustomization = kustomize.kustomization(
        namespace=common.namespaces.dispatchd,
        resources=["../../base", *sorted(objects)],
        components=_components(environment, stack),
        patches=sorted(patches),
        config_maps=_config_maps(common, environment, stack),
    )
    written = {**objects, **patches, kustomize.FILE: document(kustomization, stack)}
    return Folder(f"gitops/overlays/{stack}", written, preserve=(f"{IMAGES}/*",))


def _objects(common: Common, environment: Environment, stack: Stack) -> list[Object]:
    """Production's databases are not among them: a region switch moves those."""
    objects = redis.objects(common, environment)
    if environment.client_cidrs:
        objects.append(network.clients_outside(environment.client_cidrs))
    if environment.is_development:
        return [*objects, *dev_postgres.objects(common, environment)]
    objects += certificates.objects(common, environment)
    return objects if stack.is_production else [*objects, *postgres_cluster.objects(common, environment, stack)]


def _components(environment: Environment, stack: Stack) -> list[str]:
    chosen = [*([] if environment.is_development else _OUTSIDE_DEVELOPMENT), *_way_in(environment)]
    region = [f"{_REGIONS}/active", f"{_REGIONS}/database/{stack}"] if stack.is_production else []
    return [*(f"../../components/{name}" for name in sorted(chosen)), *region, IMAGES]


def _way_in(environment: Environment) -> list[str]:
    """Where nobody outside is let in, there is nothing to lead them."""
    return ["expose"] if environment.client_cidrs else []


def _config_maps(common: Common, environment: Environment, stack: Stack) -> list[Object]:
    settings = configuration.environment_settings(common, environment)
    made = [kustomize.config_map(configuration.SETTINGS, settings, adds_to_existing=True)]
    if not stack.is_production:
        region = configuration.region_settings(environment.region, epoch=1)
        made.append(kustomize.config_map(configuration.REGION, region))
    return made


def _patches(environment: Environment) -> list[Object]:
    """How large the roles are. An autoscaler chooses the number of pods where there is one."""
    roles: dict[Role, ScaledRole | FixedRole] = {
        Role.CONTROL_PLANE: environment.roles.control_plane,
        Role.SCHEDULER: environment.roles.scheduler,
        Role.WORKER_GATEWAY: environment.roles.worker_gateway,
    }
    patches = []
    for role, size in roles.items():
        if isinstance(size, FixedRole):
            patches.append(pods.capacity(role, size, replicas=size.replicas))
        elif environment.is_development:
            patches.append(pods.capacity(role, size, replicas=size.min_replicas))
        else:
            patches += [pods.capacity(role, size, replicas=None), autoscaling.bounds(role, size)]
    has_node_ports = environment.is_development and _way_in(environment)
    return patches + (expose.node_port_patches() if has_node_ports else [])
