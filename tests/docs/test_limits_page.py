"""docs/limits.md names every bound of the contract and of the settings, with the values of the code."""

import re
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path

import pytest

from dispatchd.adapters.postgres.database import CONNECT_TIMEOUT
from dispatchd.adapters.redis.connection import open_redis
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.application.group_commit import QUEUE_WAIT
from dispatchd.application.ports import ReadyEntry
from dispatchd.domain import limits
from dispatchd.domain.ids import IdGenerator
from dispatchd.entrypoints.settings import Role, Settings, SettingsError, load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")
ENTRIES = 10_000

CLIENT_BOUNDS = {
    "job type": "JOB_TYPE_BYTES",
    "payload": "PAYLOAD_BYTES",
    "idempotency key": "IDEMPOTENCY_KEY_BYTES",
    "metadata: entries": "METADATA_ENTRIES",
    "metadata: keys and values together": "METADATA_BYTES",
    "`run_at`, `timeout` and backoffs": "LONGEST_DELAY",
    "`max_attempts`": "MOST_ATTEMPTS",
    "jobs in one `SubmitJobs`, ids in one `RedriveDeadLetters`": "SUBMIT_ITEMS",
    "request id of an item": "REQUEST_ID_BYTES",
    "headers of a call": "HEADERS",
    "trace context of an item: each field": "TRACE_FIELD_BYTES",
    "page size": "LARGEST_PAGE_SIZE",
    "page size when none is given": "DEFAULT_PAGE_SIZE",
}
WORKER_BOUNDS = {
    "worker id": "WORKER_ID_BYTES",
    "process id": "PROCESS_ID_BYTES",
    "capabilities": "CAPABILITIES",
    "labels: entries": "METADATA_ENTRIES",
    "labels: keys and values together": "METADATA_BYTES",
    "slots": "SLOTS",
    "executions held at a registration": "HELD_EXECUTIONS",
    "entries in one message": "MESSAGE_ITEMS",
    "result": "RESULT_BYTES",
    "error message": "ERROR_BYTES",
    "error type": "ERROR_TYPE_BYTES",
    "line of a log": "LOG_CHUNK_BYTES",
    "metadata of a result: entries": "METADATA_ENTRIES",
    "metadata of a result: keys and values together": "METADATA_BYTES",
    "`retry_after`": "LONGEST_RETRY_AFTER",
}
IN_THE_TEXT = {
    "A whole request may have {}, and ": "REQUEST_BYTES",
    "and its headers {}.": "HEADER_BYTES",
    "where it would grow beyond {}, of which ": "ANSWER_BYTES",
    ", of which {} is kept for the token of the next page.": "PAGE_TOKEN_BYTES",
    "Up to {} items and ": "BATCH_ITEMS",
    " items and {} go into one transaction.": "BATCH_BYTES",
}
SETTINGS = {
    "SUBMIT_QUEUE_ITEMS": "submit_queue_items",
    "SUBMIT_QUEUE_BYTES": "submit_queue_bytes",
    "RESULT_QUEUE_ITEMS": "result_queue_items",
    "RESULT_QUEUE_BYTES": "result_queue_bytes",
    "WAITERS_LIMIT": "waiters",
    "SESSIONS_LIMIT": "sessions",
    "STREAMS_PER_PRINCIPAL": "streams_per_principal",
    "REGISTRATIONS_PER_MINUTE": "registrations_per_minute",
    "AUDIT_LOG_FILE_BYTES": "audit.file_bytes",
    "AUDIT_LOG_FILES_KEPT": "audit.files_kept",
    "CONNECTION_AGE": "connection_age",
    "DATABASE_CONNECTIONS": "database_connections",
    "LEASE_DURATION": "lease_duration",
    "WORKER_HEARTBEAT_TTL": "worker_heartbeat_ttl",
    "MAX_EXECUTION_TIME": "max_execution_time",
    "SHUTDOWN_TIMEOUT_SECONDS": "shutdown_timeout",
    "SCHEDULER_POLL_INTERVAL": "scheduler_poll_interval",
    "RETENTION": "retention",
    "DEAD_LETTER_RETENTION": "dead_letter_retention",
}
UNITS = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "h": timedelta(hours=1)}


def rows(*titles: str) -> list[list[str]]:
    """The cells of the tables under these headings, without their heads."""
    cells = []
    for title in titles:
        [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return cells


def written(name: str) -> str:
    """A bound of the domain as the page writes it."""
    value = getattr(limits, name)
    if isinstance(value, timedelta):
        return f"{value.days:,} days"
    if not name.endswith("_BYTES"):
        return f"{value:,}"
    for unit_bytes, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if value % unit_bytes == 0:
            return f"{value // unit_bytes:,} {unit}"
    return f"{value:,} bytes"


def settings(**environ: str) -> Settings:
    return load_settings(
        Role.CONTROL_PLANE, {"DATABASE_URL": "postgresql://db/jobs", "REDIS_ADDRESS": "cache:6379", **environ}
    )


def read(text: str) -> int | timedelta:
    """A value as the page writes it: a number, or a number with a unit of time."""
    match = re.fullmatch(r"(\d+)(ms|s|h)?", text)
    assert match is not None, text
    return int(match[1]) * UNITS[match[2]] if match[2] else int(match[1])


def test_every_bound_of_the_contract_is_on_the_page() -> None:
    assert {row[0]: row[1] for row in rows("What a client can send")} == {
        bound: written(name) for bound, name in CLIENT_BOUNDS.items()
    }
    assert {row[0]: row[1] for row in rows("What a worker can send")} == {
        bound: written(name) for bound, name in WORKER_BOUNDS.items()
    }
    flowing = " ".join(PAGE.split())
    for words, name in IN_THE_TEXT.items():
        assert words.format(written(name)) in flowing
    named = {*CLIENT_BOUNDS.values(), *WORKER_BOUNDS.values(), *IN_THE_TEXT.values()}
    assert named == {name for name in vars(limits) if name.isupper()}


def test_settings_have_the_defaults_and_the_ranges_of_the_page() -> None:
    listed = {row[0].strip("`"): (row[1], row[2]) for row in rows("What a process holds", "Times")}
    assert listed.keys() == SETTINGS.keys()
    for name, (default, bounds) in listed.items():
        value = attrgetter(SETTINGS[name])(settings())
        if name == "SHUTDOWN_TIMEOUT_SECONDS":
            value = round(value.total_seconds())
        assert read(default) == value, name
        for text in bounds.split(" to "):
            settings(**{name: text})
        for outside in _just_outside(*bounds.split(" to ")):
            with pytest.raises(SettingsError, match=name):
                settings(**{name: outside})


def _just_outside(least: str, most: str) -> tuple[str, str]:
    below, above = read(least), read(most)
    if isinstance(below, timedelta) and isinstance(above, timedelta):
        millisecond = UNITS["ms"]
        return f"{below // millisecond - 1}ms", f"{above // millisecond + 1}ms"
    assert isinstance(below, int)
    assert isinstance(above, int)
    return str(below - 1), str(above + 1)


def test_the_waits_in_the_text_are_those_of_the_code() -> None:
    assert f"A submit waits up to {QUEUE_WAIT.seconds} seconds for room" in PAGE
    assert f"A statement waits up to {CONNECT_TIMEOUT.seconds} seconds for a connection" in PAGE


async def test_redis_needs_no_more_memory_than_the_page_says(redis_address: str) -> None:
    [said_bytes] = re.findall(r"Plan (\d+) bytes for each one", PAGE)
    host, _, port = redis_address.partition(":")
    ids, now = IdGenerator(), datetime.now(UTC)
    redis = open_redis(host, int(port))
    try:
        queue = RedisReadyQueue(redis, "limits")
        entries = [ReadyEntry(ids.execution_id(), "email", 5, now) for _ in range(ENTRIES)]
        for start in range(0, ENTRIES, 1_000):
            await queue.offer(entries[start : start + 1_000])
        used_bytes = await redis.memory_usage("limits:queue:email", samples=0)
    finally:
        await redis.aclose()
    assert used_bytes is not None
    assert int(said_bytes) / 2 < used_bytes / ENTRIES <= int(said_bytes)
