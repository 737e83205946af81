"""Fixtures for the SDK's tests: the other side of its calls, as a real gRPC server that the test scripts."""

from collections.abc import AsyncIterator

import pytest

from dispatchd import AsyncClient
from sdk.scripted_control_plane import ScriptedControlPlane, scripted_control_plane
from sdk.scripted_gateway import ScriptedGateway, scripted_gateway


@pytest.fixture
async def control_plane() -> AsyncIterator[ScriptedControlPlane]:
    async with scripted_control_plane() as peer:
        yield peer


@pytest.fixture
async def client(control_plane: ScriptedControlPlane) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(control_plane.target) as opened:
        yield opened


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as peer:
        yield peer
