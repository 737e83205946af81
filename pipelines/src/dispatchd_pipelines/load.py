"""Puts the load of a profile of perf/ on the three images, with Postgres and Redis as services."""

import dagger
from dagger import ReturnType

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.distributed import images_of
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.fan_out import CheckFailed
from dispatchd_pipelines.services import GRPC_PORT, installation
from dispatchd_pipelines.step import ImageRole, Step

SUMMARY = "/load.json"


class LoadFailed(CheckFailed):
    """Something was lost or too slow, or the load could not be made."""


def step_of(profile: str) -> Step:
    """The command that makes the load of a profile."""
    places = ("--control-plane", f"control-plane:{GRPC_PORT}", "--worker-gateway", f"worker-gateway:{GRPC_PORT}")
    return Step(
        "load-test",
        ("python", "-m", "perf.load", "--profile", profile, *places, "--json", SUMMARY),
        ("app/**", "perf/**", "proto/**", "pyproject.toml"),
        ImageRole.PYTHON,
        alone=True,
    )


async def load_test(environments: Environments, profile: str) -> dagger.File:
    """The summary, as JSON. Raises LoadFailed; for a profile that is none it names the choices."""
    step = step_of(profile)
    async with installation(environments.pins, images_of(environments)) as running:
        ended = running.bound_to(fresh(environments.prepared(step))).with_exec(list(step.argv), expect=ReturnType.ANY)
        code = await ended.exit_code()
        if code != 0:
            said = f"{await ended.stdout()}{await ended.stderr()}".rstrip()
            raise LoadFailed(f"load test {profile}: exit code {code}\n{said}")
        # Taken while the services are there: the file is part of what ran beside them.
        return await ended.file(SUMMARY).sync()
