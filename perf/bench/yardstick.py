"""The yardstick: pgbench on the same server, inserting one job, its input and its first execution in one statement.

It works in a database of its own with the same schema, so that no role ever sees its jobs. Nothing of our own stands
between it and Postgres: what it does in a second is the most that one commit a job allows here.
"""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from dispatchd.adapters.postgres.migrate import migrate
from dispatchd.entrypoints.embedded import EmbeddedPostgres
from perf.bench.failure import BenchFailed, require_equal

DATABASE = "yardstick"
STATEMENT = Path(__file__).with_name("submit_one.sql")
_COUNT = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_RATE = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Inserts:
    """One run of pgbench."""

    jobs: int
    jobs_a_second: float
    clients: int
    seconds: int


async def prepare(postgres: EmbeddedPostgres) -> None:
    """Makes the yardstick's database."""
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()
    await migrate(postgres.url_of(DATABASE))


async def measure(postgres: EmbeddedPostgres, clients: int, seconds: int) -> Inserts:
    """Inserts for some seconds into empty tables, durably, with prepared statements."""
    connection = await asyncpg.connect(postgres.url_of(DATABASE))
    try:
        await connection.execute("truncate jobs, job_inputs, executions")
        output = await _pgbench(postgres, clients, seconds)
        count, failed, rate = _COUNT.search(output), _FAILED.search(output), _RATE.search(output)
        if count is None or failed is None or rate is None or int(failed[1]) > 0:
            raise BenchFailed(f"pgbench said:\n{output}")
        require_equal("pgbench", int(count[1]), await connection.fetchval("select count(*) from executions"))
    finally:
        await connection.close()
    return Inserts(int(count[1]), float(rate[1]), clients, seconds)


async def _pgbench(postgres: EmbeddedPostgres, clients: int, seconds: int) -> str:
    host, port = postgres.address.split(":")
    process = await asyncio.create_subprocess_exec(
        postgres.bin_dir / "pgbench",
        "--no-vacuum",
        "--protocol=prepared",
        f"--client={clients}",
        f"--jobs={min(clients, os.cpu_count() or 1)}",
        f"--time={seconds}",
        f"--file={STATEMENT}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "PGHOST": host,
            "PGPORT": port,
            "PGUSER": "postgres",
            "PGPASSWORD": (postgres.data_dir / "password").read_text(),
            "PGDATABASE": DATABASE,
        },
    )
    try:
        output = (await process.communicate())[0].decode("utf-8", "replace")
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise BenchFailed(f"pgbench failed:\n{output}")
    return output
