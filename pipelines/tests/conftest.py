"""A session for the module, in the place of an engine's. The SDK reads where it is when it is first imported."""

import os
from collections.abc import Iterator

import pytest

from session.server import TOKEN, SessionServer

os.environ |= {"DAGGER_MODULE": "dispatchd", "DAGGER_MAIN_OBJECT": "Dispatchd"}


@pytest.fixture(scope="session")
def session_server() -> Iterator[SessionServer]:
    from session import schema

    with SessionServer(schema.derive(schema.installed())).running() as server:
        os.environ |= {"DAGGER_SESSION_PORT": str(server.port), "DAGGER_SESSION_TOKEN": TOKEN}
        yield server


@pytest.fixture(scope="session")
def engine(session_server: SessionServer) -> object:
    from session.engine import Engine

    return Engine(session_server)
