"""Every check of this repository as data, in the order in which one would run them: the cheap ones first.

The Dagger module runs these commands in containers, and `python -m dispatchd_pipelines.native` runs the same ones on
this machine. A step is a command that does the work itself; it calls neither make nor another step.
"""

from collections.abc import Sequence

from dispatchd_pipelines.step import EXECUTABLES, ImageRole, Needs, Step, UnknownStep

__all__ = ["EXECUTABLES", "STEPS", "ImageRole", "Needs", "Step", "UnknownStep", "select", "step"]

ENVIRONMENTS = ("dev", "staging", "prod-region-a", "prod-region-b")
EVERYTHING = ("**",)
"""For suites that read documents, manifests and evidence beside the code: nearly every file decides their result."""

_APP = ("app/**", "pyproject.toml")
_INFRA = ("infra/**", "gitops/**", "pyproject.toml")
_RUFF = ("**/*.py", "**/*.pyi", "pyproject.toml", "infra/pyproject.toml", "pipelines/pyproject.toml", ".gitignore")

STEPS: tuple[Step, ...] = (
    Step("fmt-check", ("ruff", "format", "--check", "."), _RUFF, ImageRole.PYTHON),
    Step("lint", ("ruff", "check", "."), _RUFF, ImageRole.PYTHON),
    Step("layers", ("lint-imports",), _APP, ImageRole.PYTHON),
    Step("proto-lint", ("buf", "lint", "proto"), ("proto/**",), ImageRole.PYTHON),
    Step(
        "proto-breaking",
        ("buf", "breaking", "proto", "--against", "proto/dispatchd-v1-baseline.binpb"),
        ("proto/**",),
        ImageRole.PYTHON,
    ),
    Step(
        "types",
        ("mypy", "app/dispatchd", "tests", "perf"),
        (*_APP, "tests/**", "perf/**"),
        ImageRole.PYTHON,
        environment={"MYPYPATH": "tests"},
    ),
    Step("infra-types", ("mypy", "src", "tests"), _INFRA, ImageRole.INFRA, workdir="infra"),
    Step("render-check", ("infra", "render", "--check"), _INFRA, ImageRole.INFRA),
    Step("pipelines-types", ("mypy", "src", "tests"), ("pipelines/**",), ImageRole.PIPELINES, workdir="pipelines"),
    Step("pipelines-test", ("pytest", "-q"), EVERYTHING, ImageRole.PIPELINES, workdir="pipelines"),
    Step("test", ("pytest", "-q", "-n", "2", "--dist", "worksteal"), EVERYTHING, ImageRole.PYTHON, alone=True),
)


def step(name: str) -> Step:
    """The step of this name; `UnknownStep` names the choices."""
    return select([name])[0]


def select(names: Sequence[str]) -> tuple[Step, ...]:
    """The steps of these names in this order; `UnknownStep` names the choices."""
    by_name = {each.name: each for each in STEPS}
    unknown = tuple(name for name in names if name not in by_name)
    if unknown:
        raise UnknownStep(unknown, tuple(by_name))
    return tuple(by_name[name] for name in names)
