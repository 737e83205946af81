"""Log lines of tasks on their way to the gateway: bounded, best effort, never in the way of results."""

from __future__ import annotations

import logging
import time
from collections import deque

from google.protobuf.timestamp_pb2 import Timestamp

from dispatchd.sdk.worker.perform import cut
from dispatchd.v1 import dispatchd_pb2 as v1

MAX_LINES = 1_000
MAX_LINE_BYTES = 16 * 1024

logger = logging.getLogger("dispatchd.worker")


class LogLines:
    """Takes lines from any thread and hands them out one by one. What finds no room is dropped and counted."""

    def __init__(self) -> None:
        self._lines: deque[v1.TaskLogChunk] = deque()
        self._dropped = 0

    def add(self, execution_id: str, message: str) -> bool:
        """Take a line, cut to 16 KiB; True if it is the only one, so that somebody must be woken."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return False
        is_first = not self._lines
        emitted_at = Timestamp()
        emitted_at.FromNanoseconds(time.time_ns())
        self._lines.append(
            v1.TaskLogChunk(execution_id=execution_id, message=cut(message, MAX_LINE_BYTES), emitted_at=emitted_at)
        )
        return is_first

    def next_message(self) -> v1.ConnectRequest | None:
        """Return the next line as a message, or None."""
        if self._dropped:
            logger.warning("%d log lines were dropped: %d were waiting already", self._dropped, MAX_LINES)
            self._dropped = 0
        return v1.ConnectRequest(log_chunk=self._lines.popleft()) if self._lines else None
