"""Fixtures for the worker-gateway: an installation of real roles in the test's event loop."""

from collections.abc import AsyncIterator

import pytest

from gateway.client import Client, client
from gateway.facts import Facts
from gateway.roles import RunningRole, Site


@pytest.fixture
async def facts(database_url: str) -> AsyncIterator[Facts]:
    """A look into the test's database."""
    facts = Facts(database_url)
    yield facts
    await facts.close()


@pytest.fixture
def site(database_url: str, redis_address: str) -> Site:
    """The servers, and short leases."""
    return Site(database_url, redis_address)


@pytest.fixture
async def jobs(site: Site) -> AsyncIterator[Client]:
    """A client of a control-plane."""
    async with site.control_plane() as running, client(running.address) as connected:
        yield connected


@pytest.fixture
async def gateway(site: Site) -> AsyncIterator[RunningRole]:
    """A worker-gateway with a lease of 3 s."""
    async with site.gateway() as running:
        yield running


@pytest.fixture
async def scheduler(site: Site, facts: Facts) -> AsyncIterator[RunningRole]:
    """A scheduler that looks every 200 ms, and whose region has been the primary for long: else it ends no lease."""
    await facts.sql("update region set changed_at = now() - interval '1 day'")
    async with site.scheduler() as running:
        yield running
