"""Scans of the files and images with Trivy, whose database of vulnerabilities is in the network.

Trivy only looks. What is excused for a time, and what is told to code scanning, is decided by the same program as for
all other scans: `python -m dispatchd_pipelines.scans`.
"""

from functools import partial

import dagger
from dagger import ReturnType, dag

from dispatchd_pipelines.checks import Outputs, fresh, scanned
from dispatchd_pipelines.environments import SOURCE, Environments
from dispatchd_pipelines.fan_out import Job, NotRun
from dispatchd_pipelines.images import Service
from dispatchd_pipelines.pins import Pins
from dispatchd_pipelines.scans.trivy import FOUND
from dispatchd_pipelines.step import ImageRole, Needs, Step

SEVERITIES = "HIGH,CRITICAL"
_LOOK = ("--quiet", "--severity", SEVERITIES, "--ignore-unfixed", "--format", "json", "--output", f"/{FOUND.name}")
_LIST = ("--quiet", "--format", "cyclonedx", "--output", "/sbom.json")
_IMAGE = "/image.tar"


def judgement(what: str) -> Step:
    """The command that applies the exceptions to what Trivy has found there."""
    return Step(
        f"scan-trivy-{what}",
        ("python", "-m", "dispatchd_pipelines.scans", f"trivy-{what}"),
        ("pipelines/src/**", "pipelines/exceptions.toml"),
        ImageRole.SCAN,
        environment={"PYTHONPATH": "pipelines/src"},
        outputs=(f"build/scans/trivy-{what}.sarif",),
        needs=Needs.NETWORK_DATABASE,
    )


def files(environments: Environments, outputs: Outputs) -> Job:
    """Looks for vulnerable dependencies, secrets and mistakes of configuration."""
    container = trivy(environments.pins).with_mounted_directory("/src", environments.source)
    command = ["trivy", "fs", "--scanners", "vuln,secret,misconfig", *_LOOK, "/src"]
    return Job("scan of the files with Trivy", partial(_look, environments, container, command, "files", outputs))


def image(environments: Environments, image: dagger.Container, service: Service, outputs: Outputs, on: str = "") -> Job:
    """Looks for vulnerabilities and secrets in an image."""
    container = trivy(environments.pins).with_mounted_file(_IMAGE, image.as_tarball())
    command = ["trivy", "image", *_LOOK, "--input", _IMAGE]
    return Job(f"scan of {service}{on}", partial(_look, environments, container, command, service, outputs))


async def _look(
    environments: Environments, container: dagger.Container, command: list[str], what: str, outputs: Outputs
) -> None:
    """Raises CheckFailed for findings that nothing excuses, and NotRun if Trivy could not look."""
    ended = fresh(container).with_exec(command, expect=ReturnType.ANY)
    if await ended.exit_code() != 0:
        said = (await ended.stderr()).strip() or "it said nothing"
        raise NotRun(f"{said}\nTrivy could not look: {said.splitlines()[-1]}")
    step = judgement(what)
    judge = environments.prepared(step).with_file(f"{SOURCE}/{FOUND}", ended.file(f"/{FOUND.name}"))
    await scanned(judge, step, outputs)


def sbom(pins: Pins, image: dagger.Container) -> dagger.File:
    """What an image consists of, in CycloneDX."""
    given = trivy(pins).with_mounted_file(_IMAGE, image.as_tarball())
    return given.with_exec(["trivy", "image", *_LIST, "--input", _IMAGE]).file("/sbom.json")


def sbom_of_published(trivy: dagger.Container, reference: str, platform: str) -> dagger.File:
    """What stands in a registry under a digest, for one platform: the list names both."""
    where = ["--image-src", "remote", "--platform", platform]
    return trivy.with_exec(["trivy", "image", *_LIST, *where, reference]).file("/sbom.json")


def trivy(pins: Pins) -> dagger.Container:
    """Trivy with the database of earlier runs, which it brings up to date. One waits for the other: Trivy itself gives
    up after five seconds when another one has its cache."""
    cache = dag.cache_volume("dispatchd-trivy")
    locked = dagger.CacheSharingMode.LOCKED
    return dag.container().from_(pins.trivy).with_mounted_cache("/root/.cache/trivy", cache, sharing=locked)
