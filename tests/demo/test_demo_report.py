"""The figures of the demo's report, and how they are shown."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dispatchd.demo import __main__ as program
from dispatchd.demo.audit import Audit, Screen
from dispatchd.demo.ledger import LedgerCheck
from dispatchd.demo.report import ExecutionRow, JobRow, Pace, Report, StartLatency, make_report, percentile
from dispatchd.demo.show import MOST_FINDINGS, report_lines
from dispatchd.domain.execution import EndReason
from dispatchd.domain.job import JobState

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOLDS = LedgerCheck(4, (), ())


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def job(number: int, state: JobState, finished: float | None = 4.0, size_bytes: int = 0) -> JobRow:
    return JobRow(f"job_{number}", state, at(number), None if finished is None else at(finished), size_bytes)


def execution(
    number: int,
    end_reason: EndReason | None,
    *,
    attempt: int = 1,
    delivery: int = 1,
    error_type: str = "",
    waited_ms: int | None = 10,
    is_resumed: bool = False,
) -> ExecutionRow:
    started = None if waited_ms is None else at(waited_ms / 1000)
    return ExecutionRow(f"job_{number}", attempt, delivery, end_reason, error_type, NOON, started, is_resumed)


def report(
    jobs: Sequence[JobRow] = (),
    executions: Sequence[ExecutionRow] = (),
    ledger: LedgerCheck = HOLDS,
    burst: Sequence[str] = (),
    steady: Sequence[str] = (),
) -> Report:
    return make_report(jobs, executions, ledger, burst=burst, steady=steady)


def test_jobs_are_counted_by_outcome_and_dead_letters_by_reason() -> None:
    found = report(
        [
            job(1, JobState.SUCCEEDED, size_bytes=700),
            job(2, JobState.SUCCEEDED, size_bytes=300),
            job(3, JobState.FAILED),
            job(4, JobState.ACTIVE, None),
        ],
        [
            execution(1, EndReason.SUCCEEDED),
            execution(2, EndReason.SUCCEEDED),
            # What counts is why it failed in the end.
            execution(3, EndReason.FAILED, attempt=2, delivery=2, error_type="Missing"),
            execution(3, EndReason.FAILED, error_type="OSError"),
            execution(4, None, waited_ms=None),
        ],
    )
    assert found.states == {JobState.SUCCEEDED: 2, JobState.FAILED: 1, JobState.ACTIVE: 1}
    assert found.verdicts == {"Missing": 1}
    assert found.size_bytes == 1000


def test_attempts_deliveries_give_backs_and_resumed_executions_are_told_apart() -> None:
    found = report(
        executions=[
            execution(1, EndReason.RETURNED),
            execution(1, EndReason.SUCCEEDED, delivery=2, is_resumed=True),
            execution(2, EndReason.FAILED),
            execution(2, EndReason.SUCCEEDED, attempt=2, delivery=2),
        ]
    )
    assert (found.attempts, found.deliveries, found.returned, found.resumed) == (3, 4, 1, 1)


def test_a_lost_lease_is_recovered_once_a_worker_has_ended_its_job() -> None:
    found = report(
        executions=[
            execution(1, EndReason.LEASE_LOST),
            execution(1, EndReason.SUCCEEDED, attempt=2, delivery=2),
            execution(2, EndReason.LEASE_LOST),
            execution(2, EndReason.FAILED, attempt=2, delivery=2),
            execution(3, EndReason.LEASE_LOST),
            execution(3, None, attempt=2, delivery=2),
            execution(4, EndReason.LEASE_LOST),
        ]
    )
    assert (found.leases_lost, found.leases_recovered) == (4, 2)


def test_throughput_is_that_of_the_burst_from_its_first_submit_to_its_last_end() -> None:
    jobs = [job(1, JobState.SUCCEEDED, 3.0), job(2, JobState.FAILED, 5.0), job(3, JobState.SUCCEEDED, 99.0)]
    burst = report(jobs, [execution(2, EndReason.FAILED)], burst=["job_1", "job_2"]).burst
    assert burst == Pace(2, timedelta(seconds=4))
    assert burst.jobs_per_s == 0.5


def test_start_latency_is_that_of_first_deliveries_in_the_steady_part() -> None:
    executions = [execution(number, EndReason.SUCCEEDED, waited_ms=number) for number in range(1, 21)]
    executions.append(execution(1, EndReason.SUCCEEDED, delivery=2, waited_ms=9000))
    executions.append(execution(99, EndReason.SUCCEEDED, waited_ms=9000))
    steady = [f"job_{number}" for number in range(1, 21)]
    assert report(executions=executions, steady=steady).start_latency == StartLatency(
        20, timedelta(milliseconds=10), timedelta(milliseconds=19)
    )


def test_nothing_measured_is_no_figure() -> None:
    found = report()
    assert (found.burst, found.start_latency) == (None, None)
    assert not any("Throughput" in line or "latency" in line for line in report_lines(found, []))


@pytest.mark.parametrize(("share", "expected_s"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.95, 4), (1.0, 4)])
def test_a_percentile_is_one_of_the_values(share: float, expected_s: int) -> None:
    values = [timedelta(seconds=seconds) for seconds in (4, 2, 1, 3)]
    assert percentile(values, share) == timedelta(seconds=expected_s)


def test_findings_are_shown_as_they_are_and_not_all_of_them() -> None:
    lines = list(report_lines(report(), ["a[b].py differs"] * (MOST_FINDINGS + 2)))
    assert sum("a\\[b].py differs" in line for line in lines) == MOST_FINDINGS
    assert "    and 2 more" in lines


@pytest.mark.parametrize(
    ("ledger", "exit_code", "words"),
    [
        (HOLDS, 0, "✓ acknowledged = finished: the ledger has 4 acknowledged jobs, and all of them have ended."),
        (LedgerCheck(4, ("job_1",), ()), 1, "0 have not ended and 1 have vanished, such as job_1."),
        (LedgerCheck(4, (), ("job_2",)), 1, "1 have not ended and 0 have vanished, such as job_2."),
    ],
)
def test_the_exit_code_says_whether_the_ledger_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: LedgerCheck, exit_code: int, words: str
) -> None:
    async def audit(sites: Sequence[Path], folder: Path, screen: Screen, servers: Mapping[str, str]) -> Audit:
        (folder / "ledger").touch()
        return Audit(report(ledger=ledger), [])

    monkeypatch.setattr(program, "audit", audit)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = CliRunner().invoke(program.main, ["--site", str(tmp_path)])
    assert (ended.exit_code, words in ended.output) == (exit_code, True), ended.output
    # What went wrong can be looked into; what went well leaves nothing behind.
    assert len(list(tmp_path.glob("dispatchd-demo-*/ledger"))) == exit_code
