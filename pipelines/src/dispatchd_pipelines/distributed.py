"""What is tried with servers and roles in containers of their own: jobs, load and drills."""

from collections.abc import Mapping

import dagger

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.images import Service, build
from dispatchd_pipelines.parts import Part, steps_of
from dispatchd_pipelines.services import GRPC_PORT, installation, stores
from dispatchd_pipelines.step import ImageRole, Step

ONE_JOB = Step(
    "one-job",
    ("python", "-m", "perf.one_job", f"control-plane:{GRPC_PORT}", f"worker-gateway:{GRPC_PORT}"),
    ("app/**", "perf/**", "pyproject.toml"),
    ImageRole.PYTHON,
)
"""Takes one job through all three roles, wherever they run. Natively `perf/one_job.py` is tested by itself."""


def images_of(environments: Environments) -> dict[Service, dagger.Container]:
    """The three images for the engine's own platform."""
    return {service: build(environments.source, environments.pins.python, service) for service in Service}


async def integrate(environments: Environments, postgres: str, redis: str) -> None:
    """Run the steps that need servers of these versions."""
    async with stores(environments.pins, postgres=postgres, redis=redis) as servers:
        for step in steps_of(Part.INTEGRATION):
            container = servers.bound_to(fresh(environments.prepared(step)))
            await container.with_exec(list(step.argv)).sync()


async def take_one_job(environments: Environments, images: Mapping[Service, dagger.Container]) -> None:
    """Start the three roles from these images, and see a job through all of them."""
    async with installation(environments.pins, images) as running:
        container = running.bound_to(fresh(environments.prepared(ONE_JOB)))
        await container.with_exec(list(ONE_JOB.argv)).sync()
