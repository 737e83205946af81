"""Log lines are JSON, carry the ids of the work they belong to, and never hold up who logs."""

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dispatchd.telemetry.logs import LONGEST_TEXT, LogWriter, RotatingFile, audit, bound, configure_logging
from dispatchd.telemetry.metrics import LOG_LINES_DROPPED

logger = logging.getLogger("dispatchd.test")


class Captured:
    """A configured process whose lines are read back after it has closed its log."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()
        self.writer = configure_logging("info", "scheduler", "node-1", "local", self.stream)

    def lines(self) -> list[dict[str, object]]:
        self.writer.close()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def captured() -> Iterator[Captured]:
    levels = {name: logging.getLogger(name).level for name in ("", "dispatchd.audit", "aiohttp.access", "asyncio")}
    captured = Captured()
    yield captured
    captured.writer.close()
    logging.captureWarnings(False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_says_when_where_and_what(captured: Captured) -> None:
    logger.info("renewed %d leases", 3, extra={"sessions": 2})
    logger.debug("not at this level")
    [line] = captured.lines()
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "info",
        "logger": "dispatchd.test",
        "message": "renewed 3 leases",
        "role": "scheduler",
        "region": "local",
        "instance_id": "node-1",
        "sessions": 2,
    }


def test_ids_are_on_every_line_inside_and_on_none_outside(captured: Captured) -> None:
    with bound(job_id="job_1", request_id="r1"), bound(execution_id="exec_1"):
        logger.info("inside")
    logger.info("outside")
    inside, outside = captured.lines()
    assert (inside["job_id"], inside["execution_id"], inside["request_id"]) == ("job_1", "exec_1", "r1")
    assert "job_id" not in outside


def test_extra_fields_replace_ids_but_never_the_line_itself(captured: Captured) -> None:
    with bound(job_id="job_1"):
        logger.info("chunk", extra={"job_id": "job_2", "level": "fake", "time": "never"})
    [line] = captured.lines()
    assert (line["job_id"], line["level"]) == ("job_2", "info")
    assert line["time"] != "never"


def test_an_exception_brings_its_traceback_on_the_same_line(captured: Captured) -> None:
    try:
        raise LookupError("gone\nfor good")
    except LookupError:
        logger.exception("lost")
    [line] = captured.lines()
    assert str(line["exception"]).startswith("Traceback")
    assert str(line["exception"]).endswith("LookupError: gone\nfor good")


def test_long_and_broken_texts_are_kept_small_and_readable(captured: Captured) -> None:
    logger.info("x" * LONGEST_TEXT * 2)
    logger.info("half a pair: \ud800")
    long, broken = captured.lines()
    assert len(str(long["message"])) == LONGEST_TEXT + 1
    assert broken["message"] == "half a pair: ?"


def test_the_audit_log_is_one_line_a_call_at_any_level(captured: Captured) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    audit(
        "call",
        method="SubmitJob",
        subject="anonymous",
        roles=[],
        certificate=["host-1"],
        peer="ipv4:10.0.0.1:1",
        code="OK",
        latency_ms=1.23456,
        request_id="r1",
        job_id="job_1",
    )
    [line] = captured.lines()
    assert (line["logger"], line["method"], line["subject"], line["roles"]) == (
        "dispatchd.audit",
        "SubmitJob",
        "anonymous",
        [],
    )
    assert (line["code"], line["latency_ms"], line["job_id"]) == ("OK", 1.235, "job_1")
    assert (line["message"], line["certificate"]) == ("call", ["host-1"])
    assert "worker_id" not in line


def test_audit_lines_may_have_a_file_of_their_own_that_is_rotated(tmp_path: Path) -> None:
    stream, path = io.BytesIO(), tmp_path / "audit.log"
    writer = configure_logging("info", "scheduler", "node-1", "local", stream, RotatingFile(path, 2_000, 2))
    try:
        for number in range(40):
            audit("call", method=str(number), subject="a", roles=[], certificate=[], peer="p", code="OK", latency_ms=1)
            if number % 5 == 4:
                written(path, str(number))
    finally:
        writer.close()
        logging.captureWarnings(False)
    assert stream.getvalue() == b""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]
    lines = [line for file in sorted(tmp_path.iterdir(), reverse=True) for line in file.read_text().splitlines()]
    methods = [int(json.loads(line)["method"]) for line in lines]
    assert methods == list(range(methods[0], 40))
    assert all(file.stat().st_size <= 2_000 for file in tmp_path.iterdir())


def written(path: Path, method: str) -> None:
    """Waits until the line of this method stands in the file."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with suppress(FileNotFoundError):  # it is being rotated
            if f'"method":"{method}"' in path.read_text():
                return
        time.sleep(0.01)
    pytest.fail(f"{method} was not written")


def test_lines_that_nobody_reads_are_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    blocked = os.fdopen(writing, "wb", buffering=0)
    writer = LogWriter(blocked, {}, queue_lines=10)
    before = _dropped()
    record = logging.makeLogRecord({"msg": "y" * 8192, "levelname": "INFO", "name": "n"})
    for _ in range(100):
        writer.emit(record)
    assert _dropped() - before >= 100 - 10 - 65536 // 8192 - 10
    os.close(reading)
    writer.close()
    blocked.close()


def test_a_full_queue_is_bounded_in_bytes_too() -> None:
    stream = io.BytesIO()
    writer = LogWriter(stream, {}, queue_bytes=100)
    before = _dropped()
    writer.emit(logging.makeLogRecord({"msg": "y" * 200}))
    writer.close()
    assert _dropped() - before == 1
    assert stream.getvalue() == b""


def _dropped() -> float:
    [metric] = LOG_LINES_DROPPED.collect()
    [sample] = metric.samples
    return sample.value
