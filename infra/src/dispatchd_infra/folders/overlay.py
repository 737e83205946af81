"""gitops/overlays/<stack>: what one environment adds to the base, and chooses of the components."""

from dispatchd_infra import kustomize
from dispatchd_infra.emit import Folder, document
from dispatchd_infra.manifests import configuration
from dispatchd_infra.settings import Common, Environment, Stack

IMAGES = "images"
"""The folder, within an overlay, that only `infra promote-image` writes."""


def overlay(common: Common, environment: Environment, stack: Stack) -> Folder:
    """The folder of an environment. Its images are somebody else's to write."""
    config_maps = [
        kustomize.config_map(
            configuration.SETTINGS, configuration.environment_settings(common, environment), adds_to_existing=True
        )
    ]
    components = [IMAGES]
    if stack.is_production:
        components.insert(0, "../../regions/active")
    else:
        region = configuration.region_settings(environment.region, epoch=1)
        config_maps.append(kustomize.config_map(configuration.REGION, region))
    written = {
        kustomize.FILE: document(
            kustomize.kustomization(
                namespace=common.namespaces.dispatchd,
                resources=["../../base"],
                components=components,
                config_maps=config_maps,
            ),
            stack,
        )
    }
    return Folder(f"gitops/overlays/{stack}", written, preserve=(f"{IMAGES}/*",))
