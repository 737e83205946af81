"""docs/concepts.md says what the code does: every edge with its cause, every status, every end."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from dispatchd.domain.execution import EXECUTION_TRANSITIONS, EndReason, ExecutionState
from dispatchd.domain.job import JOB_TRANSITIONS, JobState, job_status
from dispatchd.domain.retry import EXTRA_DELIVERIES, JITTER, RetryPolicy
from dispatchd.domain.settlement import (
    Canceled,
    DeliveryCount,
    Ending,
    Failed,
    LeaseLost,
    Returned,
    Succeeded,
    TimedOut,
    settle,
)

PAGE = (Path(__file__).parents[2] / "docs" / "concepts.md").read_text("utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    [text] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def drawn_edges(text: str) -> set[tuple[str, str]]:
    """The arrows of a diagram between two states."""
    return {(edge[1], edge[2]) for edge in re.finditer(r"^ *(\w+) --> (\w+)$", text, re.MULTILINE)}


def edges(
    transitions: "dict[tuple[JobState, JobState], str] | dict[tuple[ExecutionState, ExecutionState], str]",
) -> dict[tuple[str, str], str]:
    return {(before.name, after.name): cause for (before, after), cause in transitions.items()}


@pytest.mark.parametrize(
    ("title", "transitions"),
    [
        ("The states of a job", edges(JOB_TRANSITIONS)),
        ("The states of an execution", edges(EXECUTION_TRANSITIONS)),
    ],
)
def test_every_edge_is_drawn_and_listed_with_its_cause(title: str, transitions: dict[tuple[str, str], str]) -> None:
    text = section(title)
    assert {(before, after): cause for before, after, cause in rows(text)} == transitions
    assert drawn_edges(text) == set(transitions)


def test_the_status_that_clients_see_follows_from_both_states() -> None:
    listed = {(job, execution): status for job, execution, status in rows(section("The status that clients see"))}
    for job in JobState:
        ended = job is not JobState.ACTIVE
        for execution in [state for state in ExecutionState if ended or not state.has_ended]:
            key = (job.name, "any" if ended else execution.name)
            assert listed[key] == job_status(job, execution).name
    assert len(listed) == 7


def outcomes(ending: Ending) -> set[tuple[ExecutionState, JobState]]:
    """How an execution and its job can be after such an end: early, at the last attempt, at the last delivery."""
    policy = RetryPolicy(max_attempts=2)
    counts = [
        DeliveryCount(1, 1),
        DeliveryCount(2, 2),
        DeliveryCount(1, policy.max_deliveries, counted_before=policy.max_deliveries - 1),
    ]
    settlements = [settle(count, policy, ending, 0.5) for count in counts]
    return {(each.state, each.job_state or JobState.ACTIVE) for each in settlements}


def test_what_follows_an_end_is_what_the_domain_decides() -> None:
    endings: dict[EndReason, Ending] = {
        EndReason.SUCCEEDED: Succeeded(),
        EndReason.FAILED: Failed("broken"),
        EndReason.LEASE_LOST: LeaseLost("silent"),
        EndReason.TIMED_OUT: TimedOut("slow"),
        EndReason.RETURNED: Returned(was_sent=True),
        EndReason.CANCELED: Canceled(),
    }
    expected = {}
    for reason, ending in endings.items():
        assert settle(DeliveryCount(1, 1), RetryPolicy(), ending, 0.5).end_reason is reason
        found = outcomes(ending)
        executions = [state.name for state in ExecutionState if state in {execution for execution, _ in found}]
        jobs = [state.name for state in JobState if state in {job for _, job in found}]
        expected[reason.name] = (" or ".join(executions), " or ".join(jobs))
    listed = rows(section("What follows when an execution ends"))
    assert {reason: (execution, job) for reason, execution, job, _ in listed} == expected
    assert set(endings) == set(EndReason)


def test_the_figures_in_the_text_are_those_of_the_domain() -> None:
    text = section("What follows when an execution ends")
    assert f"`max_attempts` + {EXTRA_DELIVERIES} counted deliveries" in text
    assert f"spread by {JITTER:.0%}".replace("%", " percent") in text
    early = settle(DeliveryCount(1, 1), RetryPolicy(max_backoff=timedelta(days=1)), Failed("x"), 0.5).next_execution
    late = settle(DeliveryCount(2, 2), RetryPolicy(max_backoff=timedelta(days=1)), Failed("x"), 0.5).next_execution
    assert early is not None
    assert late is not None
    assert early.delay is not None
    assert late.delay == 2 * early.delay
