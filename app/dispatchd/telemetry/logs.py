"""Logs as JSON lines on standard error, written by a thread of their own so that they never hold up the event loop.

A line has `time` (RFC 3339, UTC), `level`, `logger`, `message`, the process's `role`, `region` and `instance_id`, the
ids that `bound` put around the code, the fields given as `extra`, and `exception` with the traceback.
"""

import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import BinaryIO, Final

from dispatchd.telemetry.metrics import LOG_LINES_DROPPED

QUEUE_LINES: Final = 10_000
QUEUE_BYTES: Final = 16 * 1024 * 1024
LONGEST_TEXT: Final = 16 * 1024

_GATHER_S = 0.01
_CLOSE_S = 2.0
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_IDS: ContextVar[Mapping[str, str]] = ContextVar("dispatchd_log_ids", default={})  # noqa: B039  (it is never changed)
_AUDIT = logging.getLogger("dispatchd.audit")


@contextmanager
def bound(
    *,
    job_id: str | None = None,
    execution_id: str | None = None,
    worker_id: str | None = None,
    request_id: str | None = None,
) -> Iterator[None]:
    """Adds ids to every line that is logged inside, in this task and in the tasks it starts."""
    ids = {"job_id": job_id, "execution_id": execution_id, "worker_id": worker_id, "request_id": request_id}
    token = _IDS.set({**_IDS.get(), **{name: value for name, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _IDS.reset(token)


def audit(
    *,
    method: str,
    subject: str,
    roles: Sequence[str],
    peer: str,
    code: str,
    latency_ms: float,
    request_id: str | None = None,
    job_id: str | None = None,
    worker_id: str | None = None,
) -> None:
    """Logs who called what and how it ended, whatever LOG_LEVEL says: one line a call, logger `dispatchd.audit`."""
    fields: dict[str, object] = {
        "method": method,
        "subject": subject,
        "roles": list(roles),
        "peer": peer,
        "code": code,
        "latency_ms": round(latency_ms, 3),
    }
    ids = {"request_id": request_id, "job_id": job_id, "worker_id": worker_id}
    fields.update((name, value) for name, value in ids.items() if value is not None)
    _AUDIT.info("call", extra=fields)


def configure_logging(
    level: str, role: str, instance_id: str, region: str, stream: BinaryIO | None = None
) -> "LogWriter":
    """Sends every log line of this process to standard error (or to `stream`) and returns the writer.

    `level` is debug, info, warning or error. At the end of the process `logging` itself closes the writer, which waits
    at most two seconds for lines that are still queued.
    """
    process = {"role": role, "region": region, "instance_id": instance_id}
    writer = LogWriter(sys.stderr.buffer if stream is None else stream, JsonLines(process))
    root = logging.getLogger()
    root.addHandler(writer)
    root.setLevel(_LEVELS[level])
    _AUDIT.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # One line a scrape or a selector says nothing about jobs.
    for noisy in ("aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, _LEVELS[level]))
    return writer


class JsonLines(logging.Formatter):
    """Turns a record into one JSON object without line breaks; texts are cut at 16 KiB."""

    def __init__(self, process: Mapping[str, str]) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(record.getMessage()),
            **self._process,
        }
        fixed = frozenset(line)
        line.update(_IDS.get())
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD_FIELDS}
        line.update((name, value) for name, value in extra.items() if name not in fixed)
        if record.exc_info:
            line["exception"] = _cut_front(self.formatException(record.exc_info))
        return _ENCODER.encode(line)


class LogWriter(logging.Handler):
    """Queues finished lines for a thread that writes them; a line that finds the queue full is dropped and counted.

    The queue holds at most `queue_lines` lines and `queue_bytes` bytes.
    """

    def __init__(
        self,
        stream: BinaryIO,
        formatter: logging.Formatter,
        queue_lines: int = QUEUE_LINES,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._queue_lines = queue_lines
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Formats in the caller, because ids and tracebacks are only known there."""
        try:
            line = self.format(record).encode("utf-8", "replace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if len(self._lines) >= self._queue_lines or self._bytes + len(line) > self._queue_bytes:
                LOG_LINES_DROPPED.inc()
                return
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Takes no more lines and waits at most two seconds until the queued ones are written."""
        logging.getLogger().removeHandler(self)
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_CLOSE_S)
        super().close()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing.is_set())
                if not self._lines:
                    return
            # Writing what gathers in a few milliseconds at once leaves more of the interpreter to the event loop.
            self._closing.wait(_GATHER_S)
            with self._changed:
                lines = list(self._lines)
                self._lines.clear()
                self._bytes = 0
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                # Standard error is gone, so there is nowhere left to say so.
                LOG_LINES_DROPPED.inc(len(lines))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def _cut_front(traceback: str) -> str:
    """Keeps the end, where the innermost frame and the error are."""
    return traceback if len(traceback) <= LONGEST_TEXT else "…" + traceback[-LONGEST_TEXT:]
