"""The overlays of gitops/, as `kubectl kustomize` builds them."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import yaml

from infra.objects import Objects

GITOPS = Path(__file__).parents[2] / "gitops"


@cache
def overlay(environment: str) -> Objects:
    """The objects of an environment, built once; nobody may change them."""
    own = Path(sys.executable).parent / "kubectl"
    kubectl = str(own) if own.exists() else shutil.which("kubectl")
    assert kubectl is not None, "there is no kubectl: run `make setup`, or put one on PATH"
    folder = GITOPS / "overlays" / environment
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]
