"""The command `python -m perf.bench`: exit code 0 if every gate holds, 1 if one is missed, 2 if the run failed."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from dispatchd.entrypoints.embedded_server import EmbeddedServerError
from dispatchd.entrypoints.installation import InstallationError
from dispatchd.entrypoints.role_process import RoleFailed
from dispatchd.entrypoints.settings import Role
from perf.bench import gates, report
from perf.bench.failure import BenchFailed
from perf.bench.gates import Line
from perf.bench.machine import require_durable
from perf.bench.plan import FULL, QUICK, Plan
from perf.bench.results import Results
from perf.bench.run import run
from perf.profiling.environment import profiling_environment

_REPOSITORY = Path(__file__).parents[2]
EVIDENCE = _REPOSITORY / "evidence" / "performance" / "bench.json"
GATE_MISSED = 1
RUN_FAILED = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A smoke of a few seconds: no gate is judged, no evidence written.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write a complete run's figures here.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=_REPOSITORY / "build", show_default="build")
@click.option("--profile", type=click.Choice([role.value for role in Role]), help="Run this role under cProfile.")
def main(quick: bool, json_file: Path | None, data_dir: Path, profile: str | None) -> None:
    """Measure throughput, latency and memory of an installation beside pgbench on the same server.

    A complete run whose gates all hold replaces evidence/performance/bench.json.
    """
    progress, console = Console(stderr=True), Console(width=112)
    profiling = {} if profile is None else profiling_environment(profile, data_dir / f"{profile}.prof")
    results = _measure(QUICK if quick else FULL, data_dir, progress, profiling)
    lines = gates.lines(results)
    report.show(console, results, lines)
    if json_file is not None:
        report.write_whole(json_file, report.document(results, lines))
    if profile is not None:
        console.print(f"The profile of {profile} is in {data_dir / profile}.prof; profiled figures are no evidence.")
    elif not quick:
        _conclude(console, results, lines)


def _measure(plan: Plan, data_dir: Path, progress: Console, profiling: dict[str, str]) -> Results:
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        require_durable(data_dir)
    except BenchFailed as exc:
        _say_failed(progress, "Nothing was measured", str(exc))
        sys.exit(RUN_FAILED)
    run_dir = Path(tempfile.mkdtemp(prefix="bench-", dir=data_dir))
    # PostgreSQL runs as another user where this is root.
    run_dir.chmod(0o755)
    try:
        results = asyncio.run(run(plan, run_dir, progress, profiling))
    except (BenchFailed, EmbeddedServerError, InstallationError, RoleFailed, OSError) as exc:
        _say_failed(progress, "The run failed, nothing was written", f"{exc}\nThe logs are in {run_dir}")
        sys.exit(RUN_FAILED)
    except KeyboardInterrupt:
        shutil.rmtree(run_dir)
        progress.print("Interrupted: nothing was written.")
        sys.exit(RUN_FAILED)
    shutil.rmtree(run_dir)
    return results


def _say_failed(progress: Console, what: str, why: str) -> None:
    progress.print(f"{what}.", style="red", end=" ")
    # It may hold a log's lines, whose brackets are no markup.
    progress.print(why, markup=False, highlight=False, soft_wrap=True)


def _conclude(console: Console, results: Results, lines: Sequence[Line]) -> None:
    missed = [line.measure for line in lines if line.passed is False]
    if missed:
        console.print(f"[red]Missed:[/] {'; '.join(missed)}. No evidence was written.")
        sys.exit(GATE_MISSED)
    report.write_whole(EVIDENCE, report.document(results, lines))
    console.print(f"Every gate holds. Written to {EVIDENCE.relative_to(_REPOSITORY)}")


if __name__ == "__main__":
    main()
