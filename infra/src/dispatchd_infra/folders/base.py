"""gitops/base: what all environments have."""

from dispatchd_infra import kustomize
from dispatchd_infra.emit import Folder, document, files
from dispatchd_infra.manifests import configuration, control_plane, migrate, network, scheduler, worker_gateway
from dispatchd_infra.settings import Common, Stack


def base(common: Common) -> Folder:
    """The folder gitops/base. It is whole only together with an overlay, which makes the config map of the region."""
    objects = [
        *control_plane.objects(common),
        *scheduler.objects(common),
        *worker_gateway.objects(common),
        *migrate.objects(common),
        *network.objects(),
    ]
    written = files(objects, Stack.BASE)
    settings = kustomize.config_map(configuration.SETTINGS, configuration.base_settings())
    written[kustomize.FILE] = document(
        kustomize.kustomization(resources=sorted(written), config_maps=[settings]), Stack.BASE
    )
    return Folder("gitops/base", written)
