"""Every test gets a database of its own with the newest schema, and an empty Redis."""

import asyncio

import asyncpg
import redis.asyncio

from dispatchd.entrypoints.embedded import EmbeddedPostgres


async def test_a_test_starts_with_the_schema_and_without_jobs(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("select count(*) from jobs") == 0
    finally:
        await connection.close()


async def test_a_crashed_server_serves_the_same_database_again(database_url: str, postgres: EmbeddedPostgres) -> None:
    await asyncio.to_thread(postgres.kill)
    await asyncio.to_thread(postgres.start)
    await test_a_test_starts_with_the_schema_and_without_jobs(database_url)


async def test_redis_is_empty_at_the_start(redis_address: str) -> None:
    async with redis.asyncio.Redis.from_url(f"redis://{redis_address}") as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


async def test_redis_is_empty_at_the_start_of_the_next_test_too(redis_address: str) -> None:
    await test_redis_is_empty_at_the_start(redis_address)
