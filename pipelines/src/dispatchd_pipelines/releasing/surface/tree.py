"""The surface of this tree."""

from pathlib import Path

from dispatchd_pipelines.releasing.surface import CONTRACT, GITOPS, IMAGES, PYTHON, SETTINGS, Surface
from dispatchd_pipelines.releasing.surface.contract import contract_names
from dispatchd_pipelines.releasing.surface.delivery import gitops_names, image_names
from dispatchd_pipelines.releasing.surface.python import python_names
from dispatchd_pipelines.releasing.surface.settings import setting_names


def surface_of(root: Path, image: bytes) -> Surface:
    """What the code that is imported here, the contract in this image and the files below `root` offer."""
    return {
        PYTHON: python_names(),
        SETTINGS: setting_names(),
        CONTRACT: contract_names(image),
        IMAGES: image_names(root),
        GITOPS: gitops_names(root),
    }
