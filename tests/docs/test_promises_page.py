"""docs/promises.md is right: each promise names tests and faults that exist, and its figures are those of the code."""

import ast
import re
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from dispatchd.adapters.postgres.sessions import MOST_TAKEOVERS_A_MINUTE
from dispatchd.adapters.tokens import LEEWAY
from dispatchd.application.gateway.claimer import LOOK_EVERY, LOOK_WITHOUT_HINTS_EVERY
from dispatchd.application.wait_job import LOOK_EVERY as WAITERS_LOOK_EVERY
from dispatchd.domain.retry import (
    DEFAULT_INITIAL_BACKOFF,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_MAX_BACKOFF,
    EXTRA_DELIVERIES,
    JITTER,
)
from dispatchd.entrypoints.lifecycle import STOP_MARGIN_S
from dispatchd.sdk.worker.worker import STALL_LIMIT_S
from faults import recovery
from faults.faults import FAULTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def promises() -> dict[str, str]:
    """What stands under each heading of a promise."""
    parts = re.split(r"^###? (.*)$", PAGE, flags=re.M)
    levels = re.findall(r"^(###?) .*$", PAGE, flags=re.M)
    found = zip(levels, parts[1::2], parts[2::2], strict=True)
    return {title: text for level, title, text in found if level == "###"}


def named_after(word: str, text: str) -> list[str]:
    """The names in backticks between a word and the end of the list that it begins."""
    return re.findall(r"`([^`]+)`", "".join(re.findall(rf"^{word}: ((?:.|\n)*?)\.$", text, re.M)))


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_promises_and_each_name_is_read_as_it_is_written() -> None:
    assert len(promises()) > 40
    tests = [name for text in promises().values() for name in named_after("Tests", text)]
    assert sorted(tests) == sorted(
        "::".join(filter(None, pair)) for pair in NAMED.findall("\n".join(promises().values()))
    )


@pytest.mark.parametrize("title", promises())
def test_a_promise_names_what_proves_it(title: str) -> None:
    text = promises()[title]
    tests = named_after("Tests", text)
    assert tests
    assert len(tests) == len(set(tests))
    assert all(name.startswith("tests/") and "::test_" in name for name in tests)
    assert [name for name in named_after("Faults", text) if name not in FAULTS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text("utf-8"))
    assert [f"{file}::{name}" for file, name in named if not (ROOT / file).exists()] == []
    assert [f"{file}::{name}" for file, name in named if name and name not in functions_in(file)] == []


def test_the_targets_of_recovery_are_those_that_are_measured() -> None:
    table = re.findall(r"^\| [^|]+ \| [^|]+ \| ([^|]+) \|$", PAGE, re.M)
    assert table == [
        "At most",
        f"{recovery.WORKS_AGAIN_S:g} s",
        f"{recovery.LEADER_GAP_S:g} s",
        f"lease + {recovery.ENDED_BEYOND_LEASE_S:g} s",
        f"{recovery.NEXT_ATTEMPT_S * 1000:g} ms",
        "0",
    ]


def test_the_figures_in_the_text_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    words = {1 / 5: "a fifth", 3: "three", 5: "five", 10: "ten"}
    looks_a_second = timedelta(seconds=1) // LOOK_WITHOUT_HINTS_EVERY
    for sentence in (
        f"More than {words[MOST_TAKEOVERS_A_MINUTE]} such take-overs of an id in a minute are refused",
        f"tokens are forgiven {words[LEEWAY.seconds]} seconds",
        f"within `SHUTDOWN_TIMEOUT_SECONDS` and {words[int(STOP_MARGIN_S)]} seconds",
        f"`stall_limit` ({words[int(STALL_LIMIT_S // 60)]} minutes by default)",
        f"gateways look for work {words[looks_a_second]} times a second",
        f"The default is {words[DEFAULT_MAX_ATTEMPTS]} attempts",
        f"a backoff of {DEFAULT_INITIAL_BACKOFF.seconds} seconds that doubles",
        f"up to {DEFAULT_MAX_BACKOFF.seconds} seconds and is spread",
        f"ready at most {recovery.NEXT_ATTEMPT_S * 1000:g} milliseconds after its time",
        f"and is spread by {words[JITTER]}",
        f"After `max_attempts` + {EXTRA_DELIVERIES} deliveries",
    ):
        assert sentence in text, sentence
    assert {LOOK_EVERY, WAITERS_LOOK_EVERY} == {timedelta(seconds=1)}
    assert "a gateway finds the job within a second" in text
    assert "at the latest within a second after it" in text
