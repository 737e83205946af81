"""Makes one fault by name, with the drills of perf/: on an installation of its own, in one container."""

import dagger
from dagger import ReturnType

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.fan_out import CheckFailed
from dispatchd_pipelines.step import ImageRole, Step

REPORT = "/drill.json"


class DrillFailed(CheckFailed):
    """A promise was not kept, a target was missed, or the drill could not be done."""


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
    """What came of a drill, as JSON. Raises DrillFailed; for a name that is no drill it names the choices."""
    step = step_of(name)
    ended = fresh(environments.prepared(step)).with_exec(list(step.argv), expect=ReturnType.ANY)
    code = await ended.exit_code()
    if code != 0:
        raise DrillFailed(f"drill {name}: exit code {code}\n{await ended.stdout()}{await ended.stderr()}".rstrip())
    return ended.file(REPORT)
