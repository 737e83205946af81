"""Steps of the table as jobs: each in the container of its role, and all of them with one report."""

import uuid

import dagger

from dispatchd_pipelines import fan_out
from dispatchd_pipelines.environments import SOURCE, Environments
from dispatchd_pipelines.fan_out import Job
from dispatchd_pipelines.parts import not_run, why_not_run
from dispatchd_pipelines.step import Needs, Step

RUN = "DISPATCHD_RUN"
"""Set to something new for a command whose result depends on more than its inputs, so that no cache answers for it."""


def fresh(container: dagger.Container) -> dagger.Container:
    """The container, such that what comes after is really run, each time."""
    return container.with_env_variable(RUN, str(uuid.uuid4()))


def prepared(environments: Environments, git: dagger.GitRef, step: Step) -> dagger.Container:
    """The container before the command of a step, with the history if the step reads that."""
    container = environments.prepared(step)
    if step.history:
        container = container.with_directory(f"{SOURCE}/.git", git.tree(depth=0, include_tags=True).directory(".git"))
    return fresh(container) if step.needs is Needs.NETWORK_DATABASE else container


def job(environments: Environments, git: dagger.GitRef, step: Step) -> Job:
    """A step that passes if its command does."""

    async def execute() -> None:
        await prepared(environments, git, step).with_exec(list(step.argv)).sync()

    return Job(step.name, execute, alone=step.alone)


async def run(environments: Environments, git: dagger.GitRef, steps: list[Step], at_once: int) -> str:
    """Run steps; give the report, or raise it if one fails."""
    jobs = [job(environments, git, step) for step in steps if not why_not_run(step)]
    return await fan_out.run(jobs, at_once, not_run(steps))
