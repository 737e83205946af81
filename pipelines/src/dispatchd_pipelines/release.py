"""Publishes a release: the images of one commit, under tags that never change their meaning.

    build, smoke and scan every platform ──> push sha-<commit> of all three ──> give all three the version

The version tags come last and only when all three `sha-` tags stand, so that a failure leaves nothing that looks like a
release. A rerun takes the digests that stand, builds nothing that is there, and completes what is missing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import dagger
from dagger import dag

from dispatchd_pipelines import fan_out, images, scan
from dispatchd_pipelines.checks import Outputs
from dispatchd_pipelines.distributed import take_one_job
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.fan_out import Job
from dispatchd_pipelines.images import Origin, Service
from dispatchd_pipelines.pins import Pins
from dispatchd_pipelines.registry import AnotherDigest, Registry, authorised, error_of, log_in
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.version import Version

PLATFORMS = ("linux/amd64", "linux/arm64")
_REGISTRY = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+")


class BadRelease(ValueError):
    """What is asked for can't be released; the text says what to write."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where one image goes, and what stands there already."""

    service: Service
    repository: str
    at_commit: str | None
    """The digest of its `sha-` tag"""
    at_version: str | None
    """The digest of its version tag"""


@dataclass(frozen=True, slots=True)
class Release:
    """What is released, and where."""

    registry: str
    tag: str
    commit: str

    @classmethod
    def of(cls, registry: str, tag: str, commit: str) -> Self:
        """What somebody asked for. An owner may have capital letters, and a name in a registry has none.

        Raises BadRelease.
        """
        try:
            Version.of_tag(tag)
        except Refused as refused:
            raise BadRelease(f"--tag {refused}") from None
        if not _REGISTRY.fullmatch(registry.lower()):
            raise BadRelease(f"--registry {registry!r} names no place; write one such as ghcr.io/owner")
        return cls(registry.lower(), tag, commit)

    @property
    def host(self) -> str:
        return self.registry.split("/")[0]

    @property
    def commit_tag(self) -> str:
        return f"sha-{self.commit[:7]}"

    def repository(self, service: Service) -> str:
        return f"{self.registry}/dispatchd-{service}"


async def publish(
    environments: Environments, git: dagger.GitRef, release: Release, username: str, token: dagger.Secret, at_once: int
) -> str:
    """Publish; gives the text of images.json. Raises RegistryError, ChecksFailed."""
    registry = await log_in(environments.pins, release.host, username, token)
    targets = [await _look(registry, release, service) for service in Service]
    _refuse_another_digest(release, targets)
    digests = {target.service: target.at_commit for target in targets if target.at_commit is not None}
    missing = [target for target in targets if target.at_commit is None]
    if missing:
        built = await _built(environments, git, release, at_once)
        for target in missing:
            variants = [built[platform][target.service] for platform in PLATFORMS]
            address = f"{target.repository}:{release.commit_tag}"
            digests[target.service] = await registry.push(address, variants)
    for target in targets:
        await _give_version(registry, release, target, digests[target.service])
    return images_json(release, digests)


def images_json(release: Release, digests: dict[Service, str]) -> str:
    """What was published, for the workflow that signs it and for `infra promote-image`."""
    entries = [
        {
            "service": str(service),
            "repository": release.repository(service),
            "ref": f"{release.repository(service)}:{release.tag}",
            "digest": digests[service],
            "platforms": list(PLATFORMS),
        }
        for service in Service
    ]
    return json.dumps(entries, indent=2) + "\n"


async def sboms(pins: Pins, images_json: str, username: str, token: dagger.Secret) -> dagger.Directory:
    """What each published image consists of, for each of its platforms. Raises BadRelease, RegistryError."""
    folder = dag.directory()
    for image in _read(images_json):
        trivy = await authorised(scan.trivy(pins), image.repository.split("/")[0], username, token)
        reference = f"{image.repository}@{image.digest}"
        for platform in image.platforms:
            try:
                listed = await scan.sbom_of_published(trivy, reference, platform).sync()
            except dagger.ExecError as failure:
                raise error_of(reference, failure.stderr) from failure
            folder = folder.with_file(f"{image.service}-{platform.replace('/', '-')}.cdx.json", listed)
    return folder


@dataclass(frozen=True, slots=True)
class _Published:
    """One image of images.json, as far as its contents are concerned."""

    service: str
    repository: str
    digest: str
    platforms: tuple[str, ...]


def _read(images_json: str) -> list[_Published]:
    try:
        return [
            _Published(image["service"], image["repository"], image["digest"], tuple(image["platforms"]))
            for image in json.loads(images_json)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRelease(
            f"--images has to list service, repository, digest and platforms of each image, as publish does ({error!r})"
        ) from error


async def _look(registry: Registry, release: Release, service: Service) -> Target:
    repository = release.repository(service)
    at_commit = await registry.digest_or_none(f"{repository}:{release.commit_tag}")
    at_version = await registry.digest_or_none(f"{repository}:{release.tag}")
    return Target(service, repository, at_commit, at_version)


def _refuse_another_digest(release: Release, targets: Sequence[Target]) -> None:
    """Before anything is built or pushed. A version without its `sha-` tag was published from another commit."""
    taken = [target.repository for target in targets if target.at_version not in (None, target.at_commit)]
    if taken:
        raise AnotherDigest(
            f"{release.tag} is published already, and not from commit {release.commit[:7]}: {', '.join(taken)}."
            " A published version never changes; release a new one"
        )


async def _give_version(registry: Registry, release: Release, target: Target, digest: str) -> None:
    if target.at_version == digest:
        return
    await registry.tag(target.repository, digest, release.tag)
    stands = await registry.digest(f"{target.repository}:{release.tag}")
    if stands != digest:
        raise AnotherDigest(f"{target.repository}:{release.tag} was to be {digest}, and is {stands}")


async def _built(
    environments: Environments, git: dagger.GitRef, release: Release, at_once: int
) -> dict[str, dict[Service, dagger.Container]]:
    """All images of the commit itself, for every platform, when each one has passed. Raises ChecksFailed."""
    source, base = git.tree(discard_git_dir=True), environments.pins.python
    origin = Origin(release.tag.removeprefix("v"), release.commit, await committed_s(environments, git))
    built = {
        platform: {
            service: images.build(source, base, service, platform=platform, origin=origin) for service in Service
        }
        for platform in PLATFORMS
    }
    jobs: list[Job] = []
    for platform, of_platform in built.items():
        jobs += image_jobs(environments, of_platform, Outputs(), platform)
    await fan_out.run(jobs, at_once)
    return built


def image_jobs(
    environments: Environments, built: Mapping[Service, dagger.Container], outputs: Outputs, platform: str = ""
) -> list[Job]:
    """Smoke and scan each of the three images, and take a job through all of them."""
    on = f" on {platform}" if platform else ""
    scans = [scan.image(environments, image, service, outputs, on) for service, image in built.items()]
    return [*smoke_jobs(environments, built, platform), *scans]


def smoke_jobs(environments: Environments, built: Mapping[Service, dagger.Container], platform: str = "") -> list[Job]:
    """Look at each of the three images, and take a job through all of them."""
    on = f" on {platform}" if platform else ""
    looks = [Job(f"smoke of {service}{on}", partial(images.smoke, image, service)) for service, image in built.items()]
    return [*looks, Job(f"one job through all images{on}", partial(take_one_job, environments, built))]


async def committed_s(environments: Environments, git: dagger.GitRef) -> str:
    """When the commit was made, in seconds since 1970."""
    clone = environments.python.with_directory("/clone", git.tree()).with_workdir("/clone")
    return (await clone.with_exec(["git", "log", "-1", "--format=%ct"]).stdout()).strip()
