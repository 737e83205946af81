"""Every metric of a process, declared once with its unit, its labels and its meaning.

Every label takes values from a short list that is known in advance (methods of the contract, status codes, names of
loops, states), never an id or a text that a caller chose. Hot paths keep the child that `labels(...)` returns.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)

_PREFIX = "dispatchd"
_FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_START_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0)
_BATCH_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class SometimesKnown(Collector):
    """A gauge that has no sample while this process does not know its value, so that no alert takes 0, or what was true
    once, for an answer."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name = f"{_PREFIX}_{name}"
        self._meaning = meaning
        self._value: float | None = None
        REGISTRY.register(self)

    def set(self, value: float) -> None:
        self._value = value

    def clear(self) -> None:
        """From now on there is no sample."""
        self._value = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(self._name, self._meaning, self._value)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(name, meaning, labels, namespace=_PREFIX, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(name, meaning, labels, namespace=_PREFIX, registry=REGISTRY)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(name, meaning, labels, namespace=_PREFIX, buckets=buckets, registry=REGISTRY)


BUILD = _gauge("build_info", "Always 1; the labels say what this process is.", "version", "role", "region")

# Calls
GRPC_CALLS = _counter("grpc_calls_total", "Calls that ended, by method and gRPC status code.", "method", "code")
GRPC_CALL_DURATION = _histogram(
    "grpc_call_duration_seconds", "Time from a unary call's arrival to its answer.", _FAST_SECONDS, "method"
)
WAITERS = _gauge("waiters", "Calls of WaitJob that wait for a job to finish.")

# Group commit; kind is submit, claim or complete
GROUP_COMMIT_BATCH_SIZE = _histogram(
    "group_commit_batch_items", "Items that one transaction committed together.", _BATCH_ITEMS, "kind"
)
GROUP_COMMIT_DURATION = _histogram(
    "group_commit_duration_seconds",
    "Time one transaction took, from its first statement to its commit.",
    _FAST_SECONDS,
    "kind",
)
QUEUE_ITEMS = _gauge("queue_items", "Items that wait in a bounded queue of this process.", "kind")
QUEUE_BYTES = _gauge("queue_bytes", "Bytes that wait in a bounded queue of this process.", "kind")
QUEUE_REFUSALS = _counter("queue_refusals_total", "Items refused because a bounded queue stayed full.", "kind")

# Worker sessions
STREAMS_OPEN = _gauge("streams_open", "Worker streams that are open on this gateway.")
SLOTS_FREE = _gauge("slots_free", "Executions that the workers of this gateway could take now.")
HEARTBEATS = _counter("heartbeats_total", "Heartbeats that workers sent to this gateway.")
RENEWAL_BATCH_SIZE = _histogram(
    "renewal_batch_sessions", "Worker sessions whose lease one statement renewed.", _BATCH_ITEMS
)
SESSIONS_LOST = _counter("sessions_lost_total", "Worker sessions that ended because their lease ran out.")
TAKEOVERS = _counter("takeovers_total", "Worker sessions displaced by another stream with the same worker id.")

RESULTS_HELD = _gauge("results_held", "Results and give-backs of workers that are not saved yet.")
RESULTS_HELD_BYTES = _gauge("results_held_bytes", "How large they are together.")

# Executions and jobs
EXECUTIONS_CLAIMED = _counter(
    "executions_claimed_total",
    "Executions given to a worker session, by where it was found: redis or postgres.",
    "source",
)
EXECUTIONS_SETTLED = _counter("executions_settled_total", "Executions that ended, by end reason.", "end_reason")
JOBS_FINISHED = _counter(
    "jobs_finished_total", "Jobs that reached a final state: succeeded, failed or canceled.", "state"
)
START_LATENCY = _histogram(
    "start_latency_seconds", "Time from the moment an execution was due to its claim.", _START_SECONDS
)

# Background parts
LEADER = _gauge("leader", "1 while this scheduler is the leader of its region, else 0.")
OLDEST_READY_AGE = SometimesKnown(
    "oldest_ready_age_seconds",
    "How long the oldest execution that is due has waited for a worker, 0 when none waits. The scheduler that acts in "
    "the primary region measures it every 15 s; other processes have no sample.",
)
LOOP_FAILURES = _counter("loop_failures_total", "Ticks of a background loop that failed.", "loop")
READY_QUEUE_REPAIRED = _counter(
    "ready_queue_repaired_total", "Executions put back into a ready queue that had lost them."
)
READY_QUEUE_REBUILDS = _counter("ready_queue_rebuilds_total", "Times the ready queues were filled anew from Postgres.")

# Surroundings
DATABASE_UP = _gauge("database_up", "1 if the last use of Postgres worked, else 0.")
REDIS_UP = _gauge("redis_up", "1 if the last use of Redis worked, else 0.")
REGION_MUTATING = _gauge("region_mutating", "1 while this process may change jobs in its region, else 0.")
REGION_EPOCH = _gauge(
    "region_epoch",
    "The region's epoch, by source: row, as this process last saw it, or environment, which is REGION_EPOCH and has no "
    "sample if that is unset. While they differ this process changes nothing.",
    "source",
)
LOG_LINES_DROPPED = _counter(
    "log_lines_dropped_total", "Log lines lost because standard error did not take them quickly enough."
)
