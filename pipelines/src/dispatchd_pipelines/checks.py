"""Steps of the table as jobs: each in the container of its role, and all of them with one report."""

import os
import uuid

import dagger
from dagger import ReturnType, dag

from dispatchd_pipelines import fan_out
from dispatchd_pipelines.environments import SOURCE, Environments
from dispatchd_pipelines.fan_out import CheckFailed, Job, NotRun
from dispatchd_pipelines.parts import is_scan, not_run, why_not_run
from dispatchd_pipelines.step import Step

NOT_BEGUN = 2
"""What the commands of perf/ exit with if nothing was measured, such as for a name that does not exist."""
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
    return container


class Outputs:
    """What steps have left, those that found something too: a folder with the paths that it has here."""

    def __init__(self) -> None:
        self.folder = dag.directory()

    def take(self, step: Step, ended: dagger.Container) -> None:
        """Keep what the command of a step has left."""
        for output in step.outputs:
            top, _, rest = output.partition("/")
            self.folder = self.folder.with_directory(top, ended.directory(f"{SOURCE}/{top}"), include=[rest])


def job(environments: Environments, git: dagger.GitRef, step: Step, outputs: Outputs) -> Job:
    """A step that passes if its command does."""

    async def execute() -> None:
        container = prepared(environments, git, step)
        if is_scan(step):
            await scanned(container, step, outputs)
        else:
            outputs.take(step, await container.with_exec(list(step.argv)).sync())

    return Job(step.name, execute, alone=step.alone)


async def scanned(container: dagger.Container, step: Step, outputs: Outputs) -> None:
    """Run a scan, anew each time: databases grow, and exceptions end. Its report is kept also if it finds something.

    Raises CheckFailed if it does, and NotRun if it could not look.
    """
    ended = fresh(container).with_exec(list(step.argv), expect=ReturnType.ANY)
    code = await ended.exit_code()
    outputs.take(step, ended)
    if code == 0:
        return
    printed = f"{await ended.stdout()}{await ended.stderr()}"
    if code == os.EX_TEMPFAIL:
        raise NotRun(f"{printed}\nit needs {step.needs}")
    raise CheckFailed(f"{printed}\nexit code {code}")


async def measured(what: str, container: dagger.Container, step: Step, report: str) -> dagger.File:
    """Run a command that measures, anew each time, and give the report that it writes. Raises CheckFailed."""
    ended = fresh(container).with_exec(list(step.argv), expect=ReturnType.ANY)
    code = await ended.exit_code()
    if code != 0:
        said = f"{await ended.stdout()}{await ended.stderr()}".rstrip()
        # It was not run at all, and its last line says why.
        said = said.splitlines()[-1] if code == NOT_BEGUN and said else f"exit code {code}\n{said}"
        raise CheckFailed(f"{what}: {said}")
    # Taken now: it is part of what ran beside services that will be gone.
    return await ended.file(report).sync()


async def run(environments: Environments, git: dagger.GitRef, steps: list[Step], at_once: int) -> str:
    """Run steps; give the report, or raise it if one fails."""
    jobs = [job(environments, git, step, Outputs()) for step in steps if not why_not_run(step)]
    return await fan_out.run(jobs, at_once, not_run(steps))
