"""gitops/base: what all environments have."""

from dispatchd_infra import kustomize
from dispatchd_infra.emit import Folder, document, files
from dispatchd_infra.manifests import configuration, control_plane
from dispatchd_infra.settings import Common, Stack


def base(common: Common) -> Folder:
    """The folder gitops/base. It is whole only together with an overlay, which makes the config map of the region."""
    written = files(control_plane.objects(common), Stack.BASE)
    written[kustomize.FILE] = document(
        kustomize.kustomization(
            resources=sorted(written),
            config_maps=[kustomize.config_map(configuration.SETTINGS, configuration.base_settings())],
        ),
        Stack.BASE,
    )
    return Folder("gitops/base", written)
