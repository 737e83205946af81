"""A run for people (the table) and for later (the evidence file)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from perf.bench.gates import Line
from perf.bench.results import Results
from perf.bench.usage import DRIVER, LOG_READER, OTHERS

_BUSY_PERCENT = 15.0
_BUSY_CORES = 0.15
_ORDER = ("control-plane", "worker-gateway", "scheduler", "PostgreSQL", "Valkey", DRIVER, LOG_READER, OTHERS)


def show(console: Console, results: Results, lines: Sequence[Line]) -> None:
    """Prints the table, where the processor time went, and what makes the figures doubtful."""
    table = Table(title=f"dispatchd beside pgbench on {results.machine.cores} cores", title_justify="left")
    table.add_column("measure")
    for heading in ("figure", "× pgbench", "gate"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f} ×"
        table.add_row(line.measure, f"{_rounded(line.figure)} {line.unit}", ratio, line.gate, _verdict(results, line))
    console.print(table)
    console.print(_processor_table(results))
    for warning in warnings(results):
        console.print(f"[yellow]Note:[/] {warning}")


def warnings(results: Results) -> list[str]:
    """What a reader of the figures must know."""
    found = []
    if results.plan.name != "full":
        found.append(f"this is a {results.plan.name} run: its figures mean nothing and no gate is judged.")
    if results.source.commit is None:
        found.append("the commit is unknown.")
    elif results.source.dirty:
        found.append(f"the working tree differs from commit {results.source.commit[:10]}: these are not its figures.")
    if results.machine.busy_before_percent > _BUSY_PERCENT:
        found.append(f"others used {results.machine.busy_before_percent:.0f} % of the machine just before the run.")
    busy = [step for step, cores in results.cores.items() if cores[OTHERS] > _BUSY_CORES]
    if busy:
        found.append(f"others used more than {_BUSY_CORES:g} cores during: {', '.join(busy)}.")
    return found


def document(results: Results, lines: Sequence[Line]) -> str:
    """The evidence as JSON."""
    judged = results.plan.name == "full"
    whole = {
        "lines": [asdict(line) | {"passed": line.passed if judged else None} for line in lines],
        "warnings": warnings(results),
        **asdict(results),
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _processor_table(results: Results) -> Table:
    table = Table(title="Cores in use, on the average of each step", title_justify="left")
    table.add_column("step", no_wrap=True)
    for name in _ORDER:
        table.add_column(name.replace("-", "-\n").replace(" ", "\n"), justify="right")
    for step, cores in results.cores.items():
        table.add_row(step, *(f"{cores.get(name, 0.0):.2f}" for name in _ORDER))
    return table


def _verdict(results: Results, line: Line) -> str:
    if line.passed is None or results.plan.name != "full":
        return ""
    return "[green]pass[/]" if line.passed else "[bold red]MISSED[/]"


def _rounded(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
