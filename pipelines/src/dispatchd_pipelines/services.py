"""A whole installation from containers: Postgres, Redis and, from their images, the three roles.

Nothing of it has a password: only the containers that an engine binds to it reach it, and it is gone with them.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import dagger
from dagger import dag

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.images import Service
from dispatchd_pipelines.pins import Pins

POSTGRES_PORT = 5432
REDIS_PORT = 6379
GRPC_PORT = 8080
HTTP_PORTS: Mapping[Service, int] = {
    Service.CONTROL_PLANE: 9100,
    Service.SCHEDULER: 9101,
    Service.WORKER_GATEWAY: 9102,
}
DATABASE_URL = f"postgresql://dispatchd@postgres:{POSTGRES_PORT}/dispatchd"
REDIS_ADDRESS = f"redis:{REDIS_PORT}"


class UnknownVersion(ValueError):
    """There is no image for this version of a server."""


@dataclass(frozen=True, slots=True)
class Stores:
    """A Postgres and a Redis that run."""

    postgres: dagger.Service
    redis: dagger.Service

    def bound_to(self, container: dagger.Container) -> dagger.Container:
        """The container with both servers in its reach, and with their addresses in its environment."""
        return (
            container.with_service_binding("postgres", self.postgres)
            .with_service_binding("redis", self.redis)
            .with_env_variable("DATABASE_URL", DATABASE_URL)
            .with_env_variable("REDIS_ADDRESS", REDIS_ADDRESS)
        )


@dataclass(frozen=True, slots=True)
class Installation:
    """The three roles, running over one Postgres and one Redis."""

    stores: Stores
    roles: Mapping[Service, dagger.Service]

    def bound_to(self, container: dagger.Container) -> dagger.Container:
        """The container with everything in its reach, each role under its name."""
        container = self.stores.bound_to(container)
        for service, role in self.roles.items():
            container = container.with_service_binding(service, role)
        return container


def _chosen(what: str, version: str, images: Mapping[str, str]) -> str:
    if version not in images:
        raise UnknownVersion(f"there is no {what} {version!r} here; the versions are: {', '.join(images)}")
    return images[version]


@asynccontextmanager
async def stores(pins: Pins, *, postgres: str = "18", redis: str = "8") -> AsyncIterator[Stores]:
    """Empty servers of these versions, until the end of the block. Raises UnknownVersion."""
    of_postgres = _chosen("PostgreSQL", postgres, {"15": pins.postgres_15, "18": pins.postgres_18})
    of_redis = _chosen("Redis", redis, {"6.2": pins.redis_6_2, "8": pins.redis_8})
    async with (
        _running(
            dag.container()
            .from_(of_postgres)
            .with_env_variable("POSTGRES_USER", "dispatchd")
            .with_env_variable("POSTGRES_HOST_AUTH_METHOD", "trust")
            .with_exposed_port(POSTGRES_PORT)
        ) as first,
        _running(dag.container().from_(of_redis).with_exposed_port(REDIS_PORT)) as second,
    ):
        yield Stores(first, second)


@asynccontextmanager
async def installation(
    pins: Pins, images: Mapping[Service, dagger.Container], *, postgres: str = "18", redis: str = "8"
) -> AsyncIterator[Installation]:
    """The roles from these images over empty servers, until the end of the block. Raises UnknownVersion."""
    async with stores(pins, postgres=postgres, redis=redis) as servers:
        migrate = servers.bound_to(fresh(images[Service.CONTROL_PLANE]))
        await migrate.with_exec(["migrate"], use_entrypoint=True).sync()
        async with (
            _role(servers, images, Service.CONTROL_PLANE) as control_plane,
            _role(servers, images, Service.SCHEDULER) as scheduler,
            _role(servers, images, Service.WORKER_GATEWAY) as worker_gateway,
        ):
            yield Installation(
                servers,
                {
                    Service.CONTROL_PLANE: control_plane,
                    Service.SCHEDULER: scheduler,
                    Service.WORKER_GATEWAY: worker_gateway,
                },
            )


@asynccontextmanager
async def _role(
    servers: Stores, images: Mapping[Service, dagger.Container], service: Service
) -> AsyncIterator[dagger.Service]:
    container = servers.bound_to(images[service]).with_exposed_port(HTTP_PORTS[service])
    if service is not Service.SCHEDULER:
        container = container.with_exposed_port(GRPC_PORT)
    async with _running(container, [str(service)]) as role:
        yield role


@asynccontextmanager
async def _running(container: dagger.Container, arguments: list[str] | None = None) -> AsyncIterator[dagger.Service]:
    """A service of its own for this run, which lives until the end of the block and keeps its data until then."""
    service = await fresh(container).as_service(args=arguments, use_entrypoint=True).start()
    try:
        yield service
    finally:
        await service.stop()
