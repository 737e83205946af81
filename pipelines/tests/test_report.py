"""The report at the end of a run."""

import pytest

from dispatchd_pipelines.report import Outcome, Result, closing_line, table


def test_the_report_has_a_line_for_each_step_and_the_counts() -> None:
    results = [
        Result("lint", Outcome.PASSED, 1.25),
        Result("types", Outcome.FAILED, 20, "exit code 1"),
        Result("test", Outcome.NOT_RUN, reason="types failed"),
    ]
    assert table(results).splitlines() == [
        "passed      1.2 s  lint",
        "failed     20.0 s  types: exit code 1",
        "not run     0.0 s  test: types failed",
        "steps: 1 passed, 1 failed, 1 not run",
    ]


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("....\n12 passed in 3.21s\n", "12 passed in 3.21s"),
        (
            "=== short ===\n==== 1 failed, 2 passed, 3 deselected in 75.00s (0:01:15) ====\n\n",
            "1 failed, 2 passed, 3 deselected in 75.00s (0:01:15)",
        ),
        ("12 passed in 3.21s\nbut then it died\n", ""),
        ("All checks passed!\n", ""),
        ("", ""),
    ],
)
def test_the_closing_line_of_pytest_is_found_where_it_is_the_last(printed: str, found: str) -> None:
    assert closing_line(printed) == found
