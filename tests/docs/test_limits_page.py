"""docs/limits.md names every bound of the contract, of the settings and of the code, with the values of the code."""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import signature
from operator import attrgetter
from pathlib import Path

import click
import pytest

from dispatchd.adapters.postgres.database import CONNECT_TIMEOUT
from dispatchd.adapters.redis.connection import open_redis
from dispatchd.adapters.redis.ready_queue import RedisReadyQueue
from dispatchd.application import region_switch, wait_job
from dispatchd.application.group_commit import QUEUE_WAIT
from dispatchd.application.ports import HintsUnavailable, ReadyEntry
from dispatchd.cli.job import job
from dispatchd.domain import limits
from dispatchd.domain.ids import IdGenerator
from dispatchd.entrypoints import http_probes, lifecycle
from dispatchd.entrypoints.settings import Role, Settings, SettingsError, load_settings
from dispatchd.sdk.worker.worker import Worker
from docs.bounds import (
    CLIENT_BOUNDS,
    IN_THE_TEXT,
    IN_THE_TEXT_TOO,
    NO_BOUNDS_OF_USERS,
    OF_A_ROLE,
    OF_THE_SCHEDULER,
    OF_THE_SDK,
    SETTINGS,
    WORKER_BOUNDS,
)

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "app" / "dispatchd"
PAGE = (ROOT / "docs" / "limits.md").read_text("utf-8")
FLOWING = " ".join(PAGE.split())
ENTRIES = 10_000

BOUND = re.compile(r"_?(MOST|MAX|LONGEST|LARGEST)_[A-Z_]+|[A-Z_]+_(LIMIT|BYTES|LINES|ITEMS)")
UNITS = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "h": timedelta(hours=1)}


def rows(*titles: str) -> list[list[str]]:
    """The cells of the tables under these headings, without their heads."""
    cells = []
    for title in titles:
        [text] = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells += [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return cells


def value_of(place: str) -> object:
    """A constant of the package, `module:NAME`; of the domain's bounds by its name alone."""
    module, _, name = place.rpartition(":")
    found: object = getattr(import_module(f"dispatchd.{module or 'domain.limits'}"), name)
    return found


def written(place: str) -> str:
    """A bound as the page writes it."""
    value, name = value_of(place), place.rpartition(":")[2]
    if isinstance(value, timedelta):
        return in_words(value)
    if name.endswith("_S"):
        assert isinstance(value, float)
        return in_words(timedelta(seconds=value))
    assert isinstance(value, int)
    if name in ("LONGEST_SUBJECT", "_REQUEST_ID_CHARACTERS"):
        return f"{value:,} characters"
    if not name.endswith("_BYTES") and name != "LONGEST_TEXT":
        return f"{value:,}"
    for unit_bytes, unit in ((2**20, "MiB"), (2**10, "KiB")):
        if value % unit_bytes == 0:
            return f"{value // unit_bytes:,} {unit}"
    return f"{value:,} bytes"


def in_words(time: timedelta) -> str:
    for unit, name in ((timedelta(days=1), "days"), (timedelta(minutes=1), "min"), (timedelta(seconds=1), "s")):
        if time % unit == timedelta(0):
            return f"{time // unit:,} {name}"
    return f"{time // timedelta(milliseconds=1)} ms"


def filled(text: str) -> str:
    """With the bounds that it names in braces."""
    return re.sub(r"\{([^}]+)\}", lambda match: written(match[1]), text)


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
    for words, name in IN_THE_TEXT.items():
        assert words.format(written(name)) in FLOWING
    named = {*CLIENT_BOUNDS.values(), *WORKER_BOUNDS.values(), *IN_THE_TEXT.values()}
    assert named == {name for name in vars(limits) if name.isupper()}


def test_the_fixed_bounds_of_the_roles_are_those_of_the_code() -> None:
    for title, bounds in (
        ("Fixed bounds of a role", OF_A_ROLE),
        ("Fixed bounds of the scheduler", OF_THE_SCHEDULER),
    ):
        assert [(row[0], row[1]) for row in rows(title)] == [
            (filled(label), written(place)) for label, place in bounds.items()
        ]
    for words in IN_THE_TEXT_TOO:
        assert filled(words) in FLOWING


def test_the_bounds_of_the_sdk_and_the_commands_are_those_of_the_code() -> None:
    wait = job.commands["wait"]
    [call_timeout] = [each for each in wait.params if each.name == "call_timeout"]
    assert isinstance(call_timeout, click.Option)
    defaults = {
        "--call-timeout": in_words(timedelta(seconds=read_s(str(call_timeout.default)))),
        "max_concurrency": f"{signature(Worker).parameters['max_concurrency'].default:,}",
    }
    expected = [(label, defaults.get(place) or written(place)) for label, place in OF_THE_SDK]
    assert [(row[0], row[2]) for row in rows("What the SDK and the commands hold")] == expected


def read_s(text: str) -> float:
    time = read(text)
    assert isinstance(time, timedelta)
    return time.total_seconds()


def constants() -> Iterator[str]:
    """All constants of the package whose names say that they bound something."""
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if module.startswith(("v1.", "demo.", "domain.limits")):
            continue
        for node in ast.parse(file.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and BOUND.fullmatch(target.id):
                    yield f"{module}:{target.id}"


def test_no_bound_in_the_code_is_missing_on_the_page() -> None:
    found = {place for place in constants() if isinstance(value_of(place), int | float | timedelta)}
    text = [*OF_A_ROLE, *IN_THE_TEXT_TOO]
    named = {*OF_A_ROLE.values(), *OF_THE_SCHEDULER.values(), *(place for _, place in OF_THE_SDK)}
    named |= {place for words in text for place in re.findall(r"\{([^}]+)\}", words)}
    assert found - named - NO_BOUNDS_OF_USERS == set(), "name these on the page, or say why they are no bounds of users"
    assert found >= NO_BOUNDS_OF_USERS, "these are gone"


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
    transport = (PACKAGE / "adapters" / "grpc" / "transport.py").read_text("utf-8")
    [ping_ms] = re.findall(r'"grpc.keepalive_time_ms", ([\d_]+)', transport)
    [answer_ms] = re.findall(r'"grpc.keepalive_timeout_ms", ([\d_]+)', transport)
    for words in (
        f"A submit waits up to {QUEUE_WAIT.seconds} seconds for room",
        f"A statement waits up to {CONNECT_TIMEOUT.seconds} seconds for a connection",
        f"`WaitJob` waits {in_words(wait_job.DEFAULT_WAIT)} unless the call says otherwise",
        f"a sign of life after {int(ping_ms) // 1000} seconds of silence",
        f"closed when none comes within {int(answer_ms) // 1000} seconds",
        f"has {lifecycle.STOP_MARGIN_S:g} seconds beyond `SHUTDOWN_TIMEOUT_SECONDS`",
        f"waits {lifecycle.START_PATIENCE_S:g} seconds for Postgres",
        f"has not answered for {http_probes._READY_TIMEOUT_S:g} seconds",
        f"`dispatchd region` waits {region_switch.PATIENCE.seconds} seconds for",
    ):
        assert words in FLOWING, words


async def test_redis_needs_no_more_memory_than_the_page_says(redis_address: str) -> None:
    [said_bytes] = re.findall(r"Plan (\d+) bytes for each one", PAGE)
    host, _, port = redis_address.partition(":")
    ids, now = IdGenerator(), datetime.now(UTC)
    redis = open_redis(host, int(port))
    try:
        queue = RedisReadyQueue(redis, "limits")
        entries = [ReadyEntry(ids.execution_id(), "email", 5, now) for _ in range(ENTRIES)]
        for start in range(0, ENTRIES, 100):
            while True:
                # A hint has half a second, which a busy machine needs for itself now and then.
                with suppress(HintsUnavailable):
                    await queue.offer(entries[start : start + 100])
                    break
        used_bytes = await redis.memory_usage("limits:queue:email", samples=0)
    finally:
        await redis.aclose()
    assert used_bytes is not None
    assert int(said_bytes) / 2 < used_bytes / ENTRIES <= int(said_bytes)
