"""Logs as JSON lines on standard error, written by a thread of their own so that they never hold up the event loop.

A line has `time` (RFC 3339, UTC), `level`, `logger`, `message`, the process's `role`, `region` and `instance_id`, the
ids that `bound` put around the code, the fields given as `extra`, and `exception` with the traceback.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from dispatchd.telemetry.metrics import LOG_LINES_DROPPED

QUEUE_LINES: Final = 10_000
QUEUE_BYTES: Final = 16 * 1024 * 1024
LONGEST_TEXT: Final = 16 * 1024

_GATHER_S = 0.05
_CLOSE_S = 2.0
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_IDS: ContextVar[Mapping[str, str]] = ContextVar("dispatchd_log_ids", default={})  # noqa: B039  (it is never changed)


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


def bind_request(request_id: str) -> None:
    """Adds the request id to every line of this task from here on, for tasks that serve one call and end."""
    _IDS.set({**_IDS.get(), "request_id": request_id})


def audit(
    event: str,
    *,
    method: str,
    subject: str,
    roles: Sequence[str],
    certificate: Sequence[str],
    peer: str,
    code: str,
    latency_ms: float,
    request_id: str | None = None,
    job_id: str | None = None,
    worker_id: str | None = None,
) -> None:
    """Writes who called what and how it ended, whatever LOG_LEVEL says: one line a call, logger `dispatchd.audit`.

    It goes past `logging`, whose records cost several times what the line does. Nothing is written before
    `configure_logging`, which decides where the lines go.
    """
    if _audit_writer is None:
        return
    line: dict[str, object] = {
        "time": _time_text(time.time()),
        "level": "info",
        "logger": "dispatchd.audit",
        "message": event,
        **_audit_writer.process,
        "method": method,
        "subject": subject,
        "roles": roles,
        "certificate": certificate,
        "peer": peer,
        "code": code,
        "latency_ms": round(latency_ms, 3),
    }
    if request_id is not None:
        line["request_id"] = request_id
    if job_id is not None:
        line["job_id"] = job_id
    if worker_id is not None:
        line["worker_id"] = worker_id
    _audit_writer.put(_ENCODER.encode(line))


def configure_logging(
    level: str,
    role: str,
    instance_id: str,
    region: str,
    stream: BinaryIO | None = None,
    audit_file: "RotatingFile | None" = None,
) -> "LogWriter":
    """Sends every log line of this process to standard error (or to `stream`) and returns the writer; with an
    `audit_file` the audit lines go there instead.

    `level` is debug, info, warning or error. At the end of the process `logging` itself closes the writers, which wait
    at most two seconds for lines that are still queued. Raises OSError if the file can't be opened.
    """
    global _audit_writer
    process = {"role": role, "region": region, "instance_id": instance_id}
    writer = LogWriter(sys.stderr.buffer if stream is None else stream, process)
    _audit_writer = writer if audit_file is None else LogWriter(_RotatingStream(audit_file), process)
    root = logging.getLogger()
    root.addHandler(writer)
    root.setLevel(_LEVELS[level])
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
            "time": _time_text(record.created),
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


@dataclass(frozen=True, slots=True)
class RotatingFile:
    """A file of at most about `most_bytes`; `kept` earlier ones stand beside it as FILE.1, FILE.2 and so on."""

    path: Path
    most_bytes: int
    kept: int


class _RotatingStream:
    def __init__(self, file: RotatingFile) -> None:
        self._handler = RotatingFileHandler(file.path, maxBytes=file.most_bytes, backupCount=file.kept)

    def write(self, data: bytes) -> None:
        self._handler.emit(logging.makeLogRecord({"msg": data.decode(errors="replace").removesuffix("\n")}))

    def flush(self) -> None:
        self._handler.flush()


class ByteSink(Protocol):
    """What a writer writes to."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


class LogWriter(logging.Handler):
    """Queues finished lines for a thread that writes them twenty times a second; a line that finds the queue full is
    dropped and counted.

    The queue holds at most `queue_lines` lines and `queue_bytes` bytes. Nothing wakes the thread, for a wake-up of
    every line would take the interpreter from the event loop thousands of times a second.
    """

    def __init__(
        self,
        stream: ByteSink,
        process: Mapping[str, str],
        queue_lines: int = QUEUE_LINES,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__()
        self.process = dict(process)
        self.setFormatter(JsonLines(process))
        self._stream = stream
        self._lines: list[bytes] = []
        self._bytes = 0
        self._queue_lines = queue_lines
        self._queue_bytes = queue_bytes
        self._swap = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Formats in the caller, because ids and tracebacks are only known there."""
        try:
            self.put(self.format(record))
        except Exception:
            self.handleError(record)

    def put(self, line: str) -> None:
        """Queues a finished line."""
        data = line.encode("utf-8", "replace") + b"\n"
        with self._swap:
            if len(self._lines) >= self._queue_lines or self._bytes + len(data) > self._queue_bytes:
                LOG_LINES_DROPPED.inc()
                return
            self._lines.append(data)
            self._bytes += len(data)

    def close(self) -> None:
        """Takes no more lines and waits at most two seconds until the queued ones are written."""
        logging.getLogger().removeHandler(self)
        self._closing.set()
        self._thread.join(_CLOSE_S)
        super().close()

    def _write(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._closing.wait(_GATHER_S)
            with self._swap:
                lines, self._lines, self._bytes = self._lines, [], 0
            if not lines:
                continue
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                # Standard error is gone, so there is nowhere left to say so.
                LOG_LINES_DROPPED.inc(len(lines))


_audit_writer: LogWriter | None = None


def _time_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"


def _cut_front(traceback: str) -> str:
    """Keeps the end, where the innermost frame and the error are."""
    return traceback if len(traceback) <= LONGEST_TEXT else "…" + traceback[-LONGEST_TEXT:]
