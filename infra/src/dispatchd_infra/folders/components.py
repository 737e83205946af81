"""gitops/components: what an environment may include or leave out, each in a folder of its own."""

from collections.abc import Mapping, Sequence

from dispatchd_infra import kustomize
from dispatchd_infra.emit import Folder, document, files
from dispatchd_infra.manifests import (
    autoscaling,
    configuration,
    expose,
    external_secrets,
    observability,
    postgres_network,
    security,
    worker_autoscaling,
)
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, Stack

PATH = "gitops/components"


def components(common: Common) -> Folder:
    """All components. None depends on the environment: what does stands in its overlay."""
    contents = {
        "auth": _component(patches=security.auth_patches(), settings=configuration.auth_settings()),
        "expose": _component(objects=expose.objects()),
        "external-secrets": _component(objects=external_secrets.objects(common)),
        "ha": _component(objects=autoscaling.objects()),
        "observability": _component(objects=observability.objects(common)),
        "postgres-cluster": _component(objects=postgres_network.objects(common.addons.cloudnative_pg.namespace)),
        "tls": _component(patches=security.tls_patches(), settings=configuration.tls_settings()),
        "worker-autoscaling": _component(objects=worker_autoscaling.objects(common)),
    }
    return Folder(PATH, {f"{name}/{file}": text for name, made in contents.items() for file, text in made.items()})


def _component(
    *,
    objects: Sequence[Object] = (),
    patches: Sequence[Object] = (),
    settings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The files of one component: objects, changes of others, and settings for all roles."""
    resources = files(objects, Stack.BASE)
    changes = files(patches, Stack.BASE, kustomize.PATCH)
    config_maps = [kustomize.config_map(configuration.SETTINGS, settings, adds_to_existing=True)] if settings else []
    component = kustomize.component(resources=sorted(resources), patches=sorted(changes), config_maps=config_maps)
    return {**resources, **changes, kustomize.FILE: document(component, Stack.BASE)}
