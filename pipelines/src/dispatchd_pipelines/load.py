"""Puts the load of a profile of perf/ on the three images, with Postgres and Redis as services."""

import json

import dagger

from dispatchd_pipelines.checks import measured
from dispatchd_pipelines.distributed import images_of
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.services import GRPC_PORT, installation
from dispatchd_pipelines.step import ImageRole, Step

PROFILES = "perf/load/profiles.json"
SUMMARY = "/load.json"


class UnknownProfile(ValueError):
    """There is no profile of this name."""


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
    """The summary, as JSON. Raises CheckFailed, and UnknownProfile before anything is built, with the choices."""
    profiles = json.loads(await environments.source.file(PROFILES).contents())
    if profile not in profiles:
        raise UnknownProfile(f"there is no profile {profile!r}; the profiles are: {', '.join(profiles)}")
    step = step_of(profile)
    async with installation(environments.pins, images_of(environments)) as running:
        return await measured(f"load test {profile}", running.bound_to(environments.prepared(step)), step, SUMMARY)
