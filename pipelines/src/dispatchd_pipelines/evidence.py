"""Everything that a change has to pass, as one report, and what is kept of it."""

from functools import partial

import dagger

from dispatchd_pipelines import checks, fan_out, scan
from dispatchd_pipelines.checks import Outputs
from dispatchd_pipelines.distributed import images_of, integrate
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.fan_out import ChecksFailed, Job
from dispatchd_pipelines.parts import Part, not_run, steps_of, why_not_run
from dispatchd_pipelines.release import image_jobs
from dispatchd_pipelines.report import Outcome, Result

_CHECKED = (Part.LINT, Part.PROTO, Part.RENDER, Part.TEST, Part.BUILD)


async def ci(environments: Environments, git: dagger.GitRef, at_once: int, *, all_faults: bool = False) -> str:
    """Run everything; give the report. Raises ChecksFailed."""
    jobs, left_out = _everything(environments, git, Outputs(), all_faults=all_faults)
    return await fan_out.run(jobs, at_once, left_out)


def _everything(
    environments: Environments, git: dagger.GitRef, outputs: Outputs, *, all_faults: bool
) -> tuple[list[Job], list[Result]]:
    """What has to pass, and what the module can't run of it."""
    steps = steps_of(*_CHECKED, all_faults=all_faults)
    jobs = [
        *(checks.job(environments, git, step, outputs) for step in steps if not why_not_run(step)),
        *image_jobs(environments, images_of(environments), outputs),
        *scan_jobs(environments, git, outputs, with_images=False),
        integration_job(environments, "18", "8"),
    ]
    return jobs, not_run(steps)


def integration_job(environments: Environments, postgres: str, redis: str) -> Job:
    """The steps that need servers, over servers of these versions. They measure time, and run alone."""
    name = f"integration with PostgreSQL {postgres} and Redis {redis}"
    return Job(name, partial(integrate, environments, postgres, redis), alone=True)


def scan_jobs(
    environments: Environments, git: dagger.GitRef, outputs: Outputs, *, with_images: bool = True
) -> list[Job]:
    """All scans; without those of the images where these are scanned anyway."""
    jobs = [checks.job(environments, git, step, outputs) for step in steps_of(Part.SCAN)]
    jobs.append(scan.files(environments, outputs))
    if with_images:
        jobs += [scan.image(environments, image, name, outputs) for name, image in images_of(environments).items()]
    return jobs


async def collect(
    environments: Environments, git: dagger.GitRef, at_once: int, *, only_scans: bool
) -> dagger.Directory:
    """Run everything, or all scans; give a folder with what came of it, whether all has passed or not."""
    outputs = Outputs()
    jobs, left_out = (
        (scan_jobs(environments, git, outputs), [])
        if only_scans
        else _everything(environments, git, outputs, all_faults=False)
    )
    outcome = Outcome.PASSED
    try:
        report = await fan_out.run(jobs, at_once, left_out)
    except ChecksFailed as failure:
        outcome, report = Outcome.FAILED, str(failure)
    return outputs.folder.with_new_file("report.txt", f"{report}\n").with_new_file("outcome.txt", f"{outcome}\n")
