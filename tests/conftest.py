"""Fixtures for all tests: real servers that start once a session, and a fresh database and Redis for every test."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest

from databases import cloned_database, make_template
from dispatchd.entrypoints import child_process
from dispatchd.entrypoints.embedded import EmbeddedPostgres, EmbeddedValkey
from loop_watching import LoopWatch

POSTGRES_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "5",
}


# A shell starts a command in the background with SIGINT ignored, and programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Tests that run in several processes send their reports to one, and half a surrogate pair can't be sent."""
    return _sendable((yield))


def _sendable(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: _sendable(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(_sendable, data))
    return data


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The PostgreSQL server of all tests; a test may stop, kill or restart it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The Valkey server of all tests; a test may stop, kill or restart it."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def _template(postgres: EmbeddedPostgres) -> None:
    make_template(postgres)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, _template: None) -> Iterator[str]:
    """The address of a fresh database with the newest schema."""
    with cloned_database(postgres) as url:
        yield url


@pytest.fixture
def redis_address(valkey: EmbeddedValkey) -> str:
    """`host:port` of an empty Valkey."""
    valkey.start()
    with socket.create_connection(("127.0.0.1", valkey.port), timeout=5.0) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64) == b"+OK\r\n"
    return valkey.address


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Each call finds a TCP port that nobody listens on."""
    return child_process.free_port


@pytest.fixture
async def loop_watch() -> AsyncIterator[LoopWatch]:
    """Fails the test if anything in it holds up the event loop for more than a quarter of a second."""
    with LoopWatch(asyncio.get_running_loop()) as watch:
        yield watch
    if watch.stalls:
        pytest.fail("the event loop was held up here:\n\n" + "\n\n".join(watch.stalls), pytrace=False)
