"""What the demo shows: events and a progress bar while it runs, the report at its end."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dispatchd.demo.audit import STEADY_JOBS_PER_S, Audit
from dispatchd.demo.report import Report
from dispatchd.demo.tasks import DIFFERS, MISSING
from dispatchd.domain.job import JobState

MOST_FINDINGS = 20


class ProgressScreen:
    """Fulfils `Screen` with a progress bar below the events."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("  jobs ended"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._bar = self._progress.add_task("jobs", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def begin(self, total: int) -> None:
        self._progress.update(self._bar, total=total, visible=True)

    def ended(self, count: int) -> None:
        self._progress.update(self._bar, completed=count)


def show(audit: Audit, console: Console) -> None:
    """Writes the report."""
    for line in report_lines(audit.report, audit.findings):
        console.print(line, highlight=False, soft_wrap=True)


def report_lines(report: Report, findings: Sequence[str]) -> Iterator[str]:
    """The report in lines, with markup for rich."""
    checked = report.states.get(JobState.SUCCEEDED, 0)
    failed = report.states.get(JobState.FAILED, 0)
    yield ""
    yield "[bold]The audit[/bold]"
    yield f"  {checked:,} files are as listed ({report.size_bytes / 1e6:,.1f} MB read)."
    differ, missing = report.verdicts.get(DIFFERS, 0), report.verdicts.get(MISSING, 0)
    yield f"  {differ:,} differ, {missing:,} are missing, {failed - differ - missing:,} could not be checked."
    for finding in findings[:MOST_FINDINGS]:
        yield f"    [red]✗[/red] {escape(finding)}"
    if len(findings) > MOST_FINDINGS:
        yield f"    and {len(findings) - MOST_FINDINGS:,} more"
    yield ""
    yield "[bold]What it took[/bold]"
    yield from _cost_lines(report)
    yield ""
    yield _ledger_line(report)


def _cost_lines(report: Report) -> Iterator[str]:
    outcomes = {
        "succeeded": JobState.SUCCEEDED,
        "dead letters": JobState.FAILED,
        "canceled": JobState.CANCELED,
        "unfinished": JobState.ACTIVE,
    }
    yield f"  Jobs           {', '.join(f'{report.states.get(s, 0):,} {name}' for name, s in outcomes.items())}"
    yield f"  Attempts       {report.attempts:,}, in {report.deliveries:,} deliveries"
    yield f"  Leases lost    {report.leases_lost:,} with the killed worker, {report.leases_recovered:,} recovered"
    yield (
        f"  Resumed        {report.resumed:,} executions moved to the other worker-gateway, "
        f"{report.returned:,} were given back"
    )
    if report.burst is not None:
        yield (
            f"  Throughput     {report.burst.jobs_per_s:,.0f} jobs/s: {report.burst.jobs:,} jobs submitted at once "
            f"ended within {report.burst.duration.total_seconds():.1f} s, both kills included"
        )
    if report.start_latency is not None:
        p50_ms, p95_ms = (1000 * p.total_seconds() for p in (report.start_latency.p50, report.start_latency.p95))
        yield (
            f"  Start latency  p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms, "
            f"of {report.start_latency.jobs:,} jobs at {STEADY_JOBS_PER_S:g} a second"
        )


def _ledger_line(report: Report) -> str:
    ledger = report.ledger
    if ledger.holds:
        return (
            f"[bold green]✓ acknowledged = finished:[/bold green] the ledger has {ledger.acknowledged:,} acknowledged "
            f"jobs, and all of them have ended."
        )
    examples = ", ".join((ledger.vanished + ledger.unfinished)[:3])
    return (
        f"[bold red]✗ acknowledged ≠ finished:[/bold red] of {ledger.acknowledged:,} acknowledged jobs "
        f"{len(ledger.unfinished):,} have not ended and {len(ledger.vanished):,} have vanished, such as {examples}."
    )
