"""Fixtures of the attacks: one installation of real processes for the tests of a module."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from attacks.attacked import Site, attacked_site
from databases import cloned_database
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey


@pytest.fixture(scope="session", autouse=True)
def _many_connections() -> None:
    """Attackers have more connections than a process may open files as a rule."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="module")
def shared_database_url(postgres: EmbeddedPostgres, _template: None) -> Iterator[str]:
    with cloned_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(shared_database_url: str, valkey: EmbeddedValkey) -> AsyncIterator[Site]:
    await asyncio.to_thread(valkey.start)
    async with attacked_site(shared_database_url, valkey.address) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(installation: Site) -> AsyncIterator[Site]:
    """The installation; afterwards it has to be unharmed."""
    yield installation
    await installation.is_unharmed()
