"""The bench measures what it says, and shows nothing from a run that did not end well."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from perf.bench import report
from perf.bench.failure import BenchFailed, require_equal
from perf.bench.gates import Line
from perf.bench.latencies import latencies

REPOSITORY = Path(__file__).parents[2]
EVIDENCE = REPOSITORY / "evidence" / "performance" / "bench.json"
STEPS = {"heartbeats", "open loop", "one caller (Python)", "one caller (k6)", "backlog submit", "backlog drain"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "perf.bench", "--quick", *map(str, arguments)]


def evidence() -> bytes | None:
    return EVIDENCE.read_bytes() if EVIDENCE.exists() else None


def test_every_driver_does_in_the_database_what_it_counts(tmp_path: Path) -> None:
    before = evidence()
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        command("--data-dir", tmp_path, "--json", figures), cwd=REPOSITORY, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    rows = found["rows_in_database"]
    assert rows["heartbeats"] == {"worker_sessions": found["heartbeats"]["workers"]}
    assert rows["open"] == _rows("succeeded", found["end_to_end"]["succeeded"])
    assert rows["lone"] == _rows("active", found["lone_caller"]["acknowledged"])
    assert rows["lonek6"] == _rows("active", found["lone_k6"]["acknowledged"])
    assert rows["drain"] == _rows("succeeded", found["drained"]["acked"]) == _rows("succeeded", 600)
    assert rows["unary"] == _rows("active", found["callers"]["acknowledged"])
    assert found["callers"]["compared"] >= found["callers"]["callers"]
    for latency in _latencies(found):
        assert latency["count"] > 0
        assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"] <= latency["max_ms"]
    assert set(found["cores"]) > STEPS
    assert all(line["passed"] is None for line in found["lines"]), "a quick run judges no gate"
    assert evidence() == before
    assert "its figures mean nothing" in done.stdout
    assert list(tmp_path.iterdir()) == [figures], "what a run leaves is only what was asked for"


def test_an_interrupted_run_writes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    with subprocess.Popen(
        command("--data-dir", tmp_path, "--json", figures), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stderr is not None
        for line in bench.stderr:
            if line.startswith("open loop"):
                break
        bench.send_signal(signal.SIGINT)
        rest = bench.stderr.read()
        assert bench.wait(60) == 2
    assert "nothing was written" in rest
    assert list(tmp_path.iterdir()) == []


def test_memory_is_no_place_to_measure_durable_commits() -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("this machine has no file system in memory")
    folder = memory / f"dispatchd-{os.getpid()}"
    done = subprocess.run(command("--data-dir", folder), cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    # Only an empty folder can be removed so.
    folder.rmdir()
    assert done.returncode == 2
    assert "no commit is durable" in done.stderr


def test_a_driver_that_disagrees_with_the_database_fails_the_run() -> None:
    with pytest.raises(BenchFailed, match="the driver counted 10, the database has 9"):
        require_equal("drain", 10, 9)


def test_percentiles_are_samples_that_enough_others_do_not_exceed() -> None:
    found = latencies([number / 1000 for number in range(100, 0, -1)])
    assert (found.count, found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms) == (100, 50, 95, 99, 100)
    assert latencies([0.002]).p50_ms == latencies([0.002]).p99_ms == 2


def test_a_gate_judges_the_ratio_where_there_is_one_and_else_the_figure() -> None:
    assert Line("drain", 2_500, "jobs/s", ratio=0.25, at_least=0.25).passed is True
    assert Line("drain", 2_499, "jobs/s", ratio=0.2499, at_least=0.25).passed is False
    assert Line("ack", 2.5, "ms", at_most=2.5).passed is True
    assert Line("ack", 2.51, "ms", at_most=2.5).passed is False
    assert Line("ack p99", 9.0, "ms").passed is None


def test_evidence_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "evidence" / "bench.json"
    report.write_whole(file, "{}\n")
    assert file.read_text() == "{}\n"
    assert list(file.parent.iterdir()) == [file]


def _rows(state: str, count: int) -> dict[str, int]:
    return {state: count, "executions": count}


def _latencies(found: dict[str, Any]) -> list[dict[str, float]]:
    end_to_end = found["end_to_end"]
    return [
        found["heartbeats"]["ack"],
        found["lone_caller"]["ack"],
        found["lone_k6"]["ack"],
        found["callers"]["ack"],
        *(end_to_end[part] for part in ("ack", "start", "success")),
    ]
