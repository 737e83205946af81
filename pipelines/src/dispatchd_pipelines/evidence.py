"""Everything that a change has to pass, as one report, and what is kept of it."""

from functools import partial

import dagger
from dagger import dag

from dispatchd_pipelines import checks, fan_out, scan
from dispatchd_pipelines.distributed import images_of, integrate
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.fan_out import Job
from dispatchd_pipelines.images import Service
from dispatchd_pipelines.parts import Part, not_run, steps_of, why_not_run
from dispatchd_pipelines.release import image_jobs

_CHECKED = (Part.LINT, Part.PROTO, Part.RENDER, Part.TEST, Part.BUILD)


async def ci(environments: Environments, git: dagger.GitRef, at_once: int, *, all_faults: bool = False) -> str:
    """Run everything; give the report. Raises ChecksFailed."""
    steps = steps_of(*_CHECKED, all_faults=all_faults)
    jobs = [
        *(checks.job(environments, git, step) for step in steps if not why_not_run(step)),
        *image_jobs(environments, images_of(environments)),
        *scan_jobs(environments, git, with_images=False),
        integration_job(environments, "18", "8"),
    ]
    return await fan_out.run(jobs, at_once, not_run(steps))


def integration_job(environments: Environments, postgres: str, redis: str) -> Job:
    """The steps that need servers, over servers of these versions. They measure time, and run alone."""
    name = f"integration with PostgreSQL {postgres} and Redis {redis}"
    return Job(name, partial(integrate, environments, postgres, redis), alone=True)


def scan_jobs(environments: Environments, git: dagger.GitRef, *, with_images: bool = True) -> list[Job]:
    """All scans; without those of the images where these are scanned anyway."""
    jobs = [checks.job(environments, git, step) for step in steps_of(Part.SCAN)]
    jobs.append(Job("scan of the files with Trivy", partial(scan.files, environments.pins, environments.source)))
    if with_images:
        for service, image in images_of(environments).items():
            jobs.append(Job(f"scan of {service}", partial(scan.image, environments.pins, image)))
    return jobs


async def collect(environments: Environments, git: dagger.GitRef, at_once: int) -> dagger.Directory:
    """Run everything that `ci` runs; give a folder with what came of it. Raises ChecksFailed, without a folder then."""
    folder = dag.directory().with_new_file("ci.txt", await ci(environments, git, at_once) + "\n")
    for step in steps_of(Part.BUILD, Part.SCAN):
        container = checks.prepared(environments, git, step).with_exec(list(step.argv))
        for output in step.outputs:
            top = output.split("/")[0]
            folder = folder.with_directory(top, container.directory(top), include=[output.removeprefix(f"{top}/")])
    for service in Service:
        listed = scan.sbom(environments.pins, images_of(environments)[service])
        folder = folder.with_file(f"sbom/{service}.cdx.json", listed)
    return folder
