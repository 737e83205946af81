"""Scans of the files and images with Trivy, whose database of vulnerabilities is in the network."""

import dagger
from dagger import dag

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.pins import Pins

SEVERITIES = "HIGH,CRITICAL"
_FAILING = ["--exit-code", "1", "--severity", SEVERITIES, "--ignore-unfixed"]
_IMAGE = "/image.tar"


def trivy(pins: Pins) -> dagger.Container:
    """Trivy with the database of earlier runs, which it brings up to date."""
    cache = dag.cache_volume("dispatchd-trivy")
    return dag.container().from_(pins.trivy).with_mounted_cache("/root/.cache/trivy", cache)


async def files(pins: Pins, source: dagger.Directory) -> None:
    """Look for vulnerable dependencies, secrets and mistakes of configuration. Raises a dagger.ExecError."""
    container = fresh(trivy(pins)).with_mounted_directory("/src", source)
    scanners = ["--scanners", "vuln,secret,misconfig"]
    await container.with_exec(["trivy", "fs", "--quiet", *scanners, *_FAILING, "/src"]).sync()


async def image(pins: Pins, container: dagger.Container) -> None:
    """Look for vulnerabilities and secrets in an image. Raises a dagger.ExecError."""
    given = fresh(trivy(pins)).with_mounted_file(_IMAGE, container.as_tarball())
    await given.with_exec(["trivy", "image", "--quiet", *_FAILING, "--input", _IMAGE]).sync()


def sbom(pins: Pins, container: dagger.Container) -> dagger.File:
    """What an image consists of, in CycloneDX."""
    given = trivy(pins).with_mounted_file(_IMAGE, container.as_tarball())
    written = ["--format", "cyclonedx", "--output", "/sbom.json"]
    return given.with_exec(["trivy", "image", "--quiet", *written, "--input", _IMAGE]).file("/sbom.json")
