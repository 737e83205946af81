"""What gitops/ builds, for the tests that hold it against dispatchd itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dispatchd.entrypoints.dev_certificates import DevAuthority
from infra.objects import ENVIRONMENTS, OUTSIDE_DEVELOPMENT, Objects, of_kind
from infra.sample_secrets import Secrets, dev_secrets, sample_secrets

GITOPS = Path(__file__).parents[2] / "gitops"


@pytest.fixture(scope="session")
def overlays() -> dict[str, Objects]:
    """The objects of each environment, as `kubectl kustomize` builds them."""
    return {name: _build(GITOPS / "overlays" / name) for name in ENVIRONMENTS}


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


def _build(folder: Path) -> Objects:
    own = Path(sys.executable).parent / "kubectl"
    kubectl = str(own) if own.exists() else shutil.which("kubectl")
    assert kubectl is not None, "there is no kubectl: run `make setup`, or put one on PATH"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]
