"""What must hold, and the other figures worth a line."""

from dataclasses import dataclass

from perf.bench.results import Results


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `limit` is a bound on the ratio if there is one, else on the figure; None judges nothing."""

    measure: str
    figure: float
    unit: str
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether its gate holds; None without a gate."""
        judged = self.figure if self.ratio is None else self.ratio
        if self.at_least is not None:
            return judged >= self.at_least
        if self.at_most is not None:
            return judged <= self.at_most
        return None

    @property
    def gate(self) -> str:
        """The bound in words."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g} ×"
        if self.at_most is not None:
            return f"≤ {self.at_most:g} {self.unit}"
        return ""


def lines(results: Results) -> list[Line]:
    """The table of a run."""
    yardstick = results.yardstick.jobs_a_second
    open_loop = results.end_to_end
    rate = f"at {open_loop.rate:g} jobs/s"
    callers = f"{results.callers.callers} unary callers"

    def throughput(measure: str, jobs_a_second: float, at_least: float | None = None) -> Line:
        return Line(measure, jobs_a_second, "jobs/s", ratio=jobs_a_second / yardstick, at_least=at_least)

    return [
        throughput("pgbench, one insert a job (mean of two)", yardstick),
        throughput(f"{callers}, durable submits", results.callers.submits_a_second, at_least=0.2),
        throughput(f"backlog of {results.drained.acked:,} drained", results.drained.jobs_a_second, at_least=0.25),
        throughput("backlog submitted by SubmitJobs", results.filled.jobs_a_second),
        Line("one caller's ack p50 (k6)", results.lone_k6.ack.p50_ms, "ms", at_most=2.5),
        Line("one caller's ack p50 (Python)", results.lone_caller.ack.p50_ms, "ms", at_most=2.5),
        Line(f"{callers}, ack p50", results.callers.ack.p50_ms, "ms"),
        Line(f"{callers}, ack p99", results.callers.ack.p99_ms, "ms"),
        Line(f"submit to start p50, {rate}", open_loop.start.p50_ms, "ms", at_most=5.0),
        Line(f"submit to start p99, {rate}", open_loop.start.p99_ms, "ms", at_most=15.0),
        Line(f"submit to succeeded p50, {rate}", open_loop.success.p50_ms, "ms"),
        Line(f"submit to succeeded p99, {rate}", open_loop.success.p99_ms, "ms"),
        Line(
            f"heartbeat ack p95, {results.heartbeats.workers} workers", results.heartbeats.ack.p95_ms, "ms", at_most=10
        ),
        *(
            Line(f"memory of {name}, peak (idle {memory.idle.rss_mib:.0f})", memory.peak_rss_mib, "MiB", at_most=120)
            for name, memory in results.memory.items()
        ),
    ]
