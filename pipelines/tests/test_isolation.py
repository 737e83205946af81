"""Every step does its work in a copy of the tree that holds what the step says it reads, and nothing else.

A container of the Dagger module is given just those files, and may reuse an earlier result while they are the same. So
a file that a step reads without saying so would be missing there, or its change would go unnoticed.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import tree
from dispatchd_pipelines.machine import Machine
from dispatchd_pipelines.steps import STEPS, ImageRole, Needs, Step, step

SOURCES = {
    ImageRole.PYTHON: ("app",),
    ImageRole.INFRA: ("infra/src",),
    ImageRole.PIPELINES: ("pipelines/src",),
    ImageRole.SCAN: ("pipelines/src",),
}
"""Where an environment finds the code of this repository that is installed in it."""

ONE_OF_ITS_KIND_IS_ENOUGH = {
    f"{kind}-{environment}"
    for kind in ("k8s-render", "argocd-render")
    for environment in ("staging", "prod-region-a", "prod-region-b")
}
READS_EVERYTHING = {each.name for each in STEPS if "**" in each.inputs}
"""`.ci/run` on a fresh clone is this test for them."""

TAKES_LONG = {
    "types": "mypy has to begin anew in a copy, which takes 20 seconds",
    "infra-types": "as long",
    "pipelines-types": "as the others",
    "k8s-validate": "20 seconds",
    "argocd-render-dev": "does what render-check does",
    "hostile": "half a minute",
    "singles": "minutes",
    "singles-all": "a quarter of an hour",
    "integration": "a minute, and needs servers",
    "build": "asks PyPI for what it builds with",
    "scan-workflows": "asks the Go module proxy for what it builds first",
    "scanners-test": "half a minute",
    "scan-dependencies": "asks a database in the network",
    "scan-go": "asks a database in the network",
    "image-check": "minutes, and needs a Docker daemon",
}
"""Left out unless asked for: `make pipelines-test`, then `pytest -m slow tests/test_isolation.py`."""

WITHOUT_THE_TREE = """
import sys
sys.path[:] = [path for path in sys.path if path not in {known!r}]
"""


def cases() -> list[object]:
    """The steps to try, each as pytest has it; those that take long carry a mark."""
    tried = [each for each in STEPS if each.name not in ONE_OF_ITS_KIND_IS_ENOUGH | READS_EVERYTHING]
    slow = [pytest.mark.slow, pytest.mark.timeout(1800)]
    return [pytest.param(each, id=each.name, marks=slow if each.name in TAKES_LONG else []) for each in tried]


def isolated(each: Step, folder: Path) -> Step:
    """The same step, whose environment finds the code of the copy and not that of the tree it was installed from."""
    installed = [str(tree.ROOT / source) for source in SOURCES[each.image]]
    (folder / "sitecustomize.py").write_text(WITHOUT_THE_TREE.format(known=installed))
    found = [str(folder), *SOURCES[each.image], *each.environment.get("PYTHONPATH", "").split(os.pathsep)]
    inside = [os.path.relpath(path, each.workdir) if not os.path.isabs(path) else path for path in found if path]
    return replace(each, environment={**each.environment, "PYTHONPATH": os.pathsep.join(inside)})


def commit(top: Path) -> None:
    """Makes a repository of the copy, with a history of one commit."""
    author = ["-c", "user.name=Test", "-c", "user.email=test@dispatchd.example"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "Copy"]):
        subprocess.run(["git", *command], cwd=top, check=True)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The top of the copy."""
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


@pytest.mark.parametrize("each", cases())
def test_a_step_passes_with_what_it_says_it_reads_and_nothing_else(each: Step, top: Path, tmp_path: Path) -> None:
    tree.copy(each.inputs, top)
    if each.history:
        commit(top)
    code, printed = Machine(top, tools=tree.ROOT).execute(isolated(each, tmp_path), shown=False)
    no_answer = code == os.EX_TEMPFAIL and each.needs is Needs.NETWORK_DATABASE
    assert code == 0 or no_answer, printed


@pytest.mark.parametrize(
    ("name", "forgotten"),
    [("layers", "app/**"), ("lint", "pyproject.toml"), ("render-check", "infra/**"), ("proto-fresh", "proto/**")],
)
def test_a_step_that_forgets_to_say_what_it_reads_fails_here(
    name: str, forgotten: str, top: Path, tmp_path: Path
) -> None:
    each = step(name)
    tree.copy([pattern for pattern in each.inputs if pattern != forgotten], top)
    code, _ = Machine(top, tools=tree.ROOT).execute(isolated(each, tmp_path), shown=False)
    assert code != 0


def test_the_list_of_those_that_take_long_names_steps() -> None:
    assert set(TAKES_LONG) <= {each.name for each in STEPS} - READS_EVERYTHING
