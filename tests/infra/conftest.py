"""What gitops/ builds, for the tests that hold it against dispatchd itself."""

import pytest
import yaml

from dispatchd.entrypoints.dev_certificates import DevAuthority
from infra.kustomize import GITOPS, overlay
from infra.objects import ENVIRONMENTS, OUTSIDE_DEVELOPMENT, Objects, of_kind
from infra.sample_secrets import Secrets, dev_secrets, sample_secrets


@pytest.fixture(scope="session")
def overlays() -> dict[str, Objects]:
    """The objects of each environment, as `kubectl kustomize` builds them."""
    return {name: overlay(name) for name in ENVIRONMENTS}


@pytest.fixture(scope="session")
def secrets(overlays: dict[str, Objects], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Secrets]:
    """Samples of the Secrets of each environment.

    A production region that has no database yet will have a Cluster of the same name as all others.
    """
    authority = DevAuthority(tmp_path_factory.mktemp("authority"))
    clusters = [each for objects in overlays.values() for each in of_kind(objects, "Cluster")]
    outside = {name: sample_secrets([*overlays[name], *clusters], authority) for name in OUTSIDE_DEVELOPMENT}
    return {"dev": dev_secrets(), **outside}


@pytest.fixture(scope="session")
def worker_autoscaling() -> Objects:
    """The objects of the component that users include, which stands in no environment."""
    files = (GITOPS / "components" / "worker-autoscaling").glob("scaledobject-*.yaml")
    return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
