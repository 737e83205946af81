"""Makes one fault by name, with the drills of perf/: on an installation of its own, in one container."""

import dagger

from dispatchd_pipelines.checks import measured
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.step import ImageRole, Step

REPORT = "/drill.json"


def step_of(name: str) -> Step:
    """The command of a drill."""
    return Step(
        "drill",
        ("python", "-m", "perf.drills", "--name", name, "--json", REPORT),
        ("app/**", "tests/**", "perf/**", "pyproject.toml"),
        ImageRole.PYTHON,
        alone=True,
    )


async def drill(environments: Environments, name: str) -> dagger.File:
    """What came of a drill, as JSON. Raises CheckFailed; for a name that is no drill it names the choices."""
    step = step_of(name)
    return await measured(f"drill {name}", environments.prepared(step), step, REPORT)
