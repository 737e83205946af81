"""The report at the end of a run."""

from dispatchd_pipelines.report import Outcome, Result, table


def test_the_report_has_a_line_for_each_step_and_the_counts() -> None:
    results = [
        Result("lint", Outcome.PASSED, 1.25),
        Result("types", Outcome.FAILED, 20, "exit code 1"),
        Result("test", Outcome.NOT_RUN, reason="types failed"),
    ]
    assert table(results).splitlines() == [
        "passed       1.2 s  lint",
        "failed      20.0 s  types: exit code 1",
        "not run      0.0 s  test: types failed",
        "steps: 1 passed, 1 failed, 1 not run",
    ]
