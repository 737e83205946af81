"""A fresh, migrated database for every test: cloned from a template that is migrated once a session."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from dispatchd.entrypoints.embedded import EmbeddedPostgres

TEMPLATE = "template_dispatchd"
EMPTY = "template0"

_numbers = itertools.count(1)


def make_template(postgres: EmbeddedPostgres) -> None:
    """Creates the template and brings its schema to the newest version."""
    # Only here, so that tests without a database don't load the adapter.
    from dispatchd.adapters.postgres.migrate import migrate

    _execute(postgres, f"create database {TEMPLATE}")
    asyncio.run(migrate(postgres.url_of(TEMPLATE)))


@contextmanager
def cloned_database(postgres: EmbeddedPostgres, template: str = TEMPLATE) -> Iterator[str]:
    """Clones a template and yields the address of the clone, which is dropped afterwards, connected or not."""
    name = f"test_{next(_numbers)}"
    _execute(postgres, f"create database {name} template {template}")
    yield postgres.url_of(name)
    _execute(postgres, f"drop database {name} with (force)")


def _execute(postgres: EmbeddedPostgres, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(postgres.url, timeout=10.0)
        try:
            await connection.execute(statement, timeout=30.0)
        finally:
            await connection.close()

    # A test may have stopped or killed the server.
    postgres.start()
    asyncio.run(execute())
