"""A session for the module, in the place of an engine's. The SDK reads where it is when it is first imported."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from session.server import TOKEN, SessionServer

if TYPE_CHECKING:
    from releases import Released
    from session.engine import Engine

os.environ |= {"DAGGER_MODULE": "dispatchd", "DAGGER_MAIN_OBJECT": "Dispatchd"}


@pytest.fixture(scope="session")
def session_server() -> Iterator[SessionServer]:
    from session import quicker, schema

    quicker.make_sdk_quicker()
    with SessionServer(schema.derive(schema.installed())).running() as server:
        os.environ |= {"DAGGER_SESSION_PORT": str(server.port), "DAGGER_SESSION_TOKEN": TOKEN}
        yield server


@pytest.fixture(scope="session")
def engine(session_server: SessionServer) -> "Engine":
    from session.engine import Engine

    return Engine(session_server)


@pytest.fixture(scope="session")
def released(engine: "Engine") -> "Released":
    """A release to an empty registry, published once for all tests that look at it."""
    from releases import release

    return release(engine)
