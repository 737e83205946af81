"""The three images, as the Dockerfile defines them, and what has to hold of each before it is used."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import dagger
from dagger import BuildArg

from dispatchd_pipelines.fan_out import CheckFailed

USER = "65532"
ENTRYPOINT = ["dispatchd"]


class Service(StrEnum):
    """A role of dispatchd, with an image of its own."""

    CONTROL_PLANE = "control-plane"
    SCHEDULER = "scheduler"
    WORKER_GATEWAY = "worker-gateway"


class UnknownService(ValueError):
    """There is no role of this name."""


def named(name: str) -> Service:
    """The role of this name. Raises UnknownService, which names the choices."""
    try:
        return Service(name)
    except ValueError:
        raise UnknownService(f"there is no service {name!r}; the services are: {', '.join(Service)}") from None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a released image says of itself."""

    version: str
    commit: str
    committed_s: str
    """When the commit was made, in seconds since 1970: the time that all files of the image get"""


class BadImage(CheckFailed):
    """An image is not as it must be."""


def build(
    source: dagger.Directory,
    base: str,
    service: Service,
    *,
    platform: str | None = None,
    origin: Origin | None = None,
) -> dagger.Container:
    """The image of a role on this base, for the engine's own platform unless another one is named."""
    arguments = {"BASE": base, "SERVICE": str(service)}
    if origin is not None:
        arguments |= {
            "VERSION": origin.version,
            "REVISION": origin.commit,
            "CREATED": datetime.fromtimestamp(int(origin.committed_s), UTC).isoformat(),
            "SOURCE_DATE_EPOCH": origin.committed_s,
        }
    return source.docker_build(
        dockerfile="Dockerfile",
        build_args=[BuildArg(name, value) for name, value in arguments.items()],
        platform=None if platform is None else dagger.Platform(platform),
    )


async def smoke(image: dagger.Container, service: Service) -> None:
    """Look at an image and start its program once. Raises BadImage or a dagger.ExecError."""
    user, entrypoint = await image.user(), await image.entrypoint()
    if user.split(":")[0] != USER:
        raise BadImage(f"the image of {service} runs as {user or 'root'!r}, and has to run as {USER}")
    if entrypoint != ENTRYPOINT:
        raise BadImage(f"the image of {service} starts {entrypoint}, and has to start {ENTRYPOINT}")
    await image.with_exec(["--version"], use_entrypoint=True).sync()
