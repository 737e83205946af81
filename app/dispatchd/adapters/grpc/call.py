"""One pipeline around every unary call, free of any transport: identity, handler, error, then audit and metrics.

::

    (method, metadata, peer, bytes) ──▶ identity ──▶ handler ──▶ bytes or status ──▶ audit line, metrics, log
"""

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client import Counter, Histogram

from dispatchd.adapters.grpc.status import Status, StatusCode, status_of
from dispatchd.domain.errors import DispatchdError, Unavailable
from dispatchd.telemetry import logs, metrics

REQUEST_ID = "x-request-id"
_REQUEST_ID_CHARACTERS = 200
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls. Everybody is `anonymous` until authentication is built."""

    subject: str = "anonymous"
    roles: tuple[str, ...] = ()


ANONYMOUS = Identity()


@dataclass(slots=True)
class Call:
    """A call as a handler sees it; the handler notes what the audit line should name."""

    method: str
    metadata: Mapping[str, str]
    peer: str
    time_remaining: timedelta | None = None
    identity: Identity = ANONYMOUS
    request_id: str = ""
    job_id: str | None = None
    worker_id: str | None = None


Handler = Callable[[Call, bytes], Awaitable[bytes]]


class CallPipeline:
    """Runs handlers; `answer` never raises but for cancellation."""

    def __init__(self, *, audits: bool) -> None:
        self._audits = audits
        self._random = random.Random()
        self._counters: dict[tuple[str, StatusCode], Counter] = {}
        self._durations: dict[str, Histogram] = {}

    def begin(self, call: Call) -> None:
        """Identity and request id of a call."""
        given = call.metadata.get(REQUEST_ID, "")
        call.request_id = given[:_REQUEST_ID_CHARACTERS] if given else f"{self._random.getrandbits(64):016x}"

    async def answer(self, handler: Handler, call: Call, request: bytes) -> bytes | Status:
        """The handler's bytes, or the status of its error."""
        self.begin(call)
        started = time.perf_counter()
        code = StatusCode.CANCELLED
        try:
            # Each call has a task of its own, so its id need not be taken off again.
            logs.bind_request(call.request_id)
            answer = await handler(call, request)
            code = StatusCode.OK
            return answer
        except DispatchdError as exc:
            status = status_of(exc)
            code = status.code
            return status
        except Exception:
            _log.exception("a handler failed", extra={"method": call.method})
            status = status_of(Unavailable(f"the server failed; its log has request id {call.request_id}"))
            code = status.code
            return status
        finally:
            self.end(call, code, time.perf_counter() - started)

    def end(self, call: Call, code: StatusCode, seconds: float, *, is_stream: bool = False) -> None:
        """Metrics and the audit line of a call that is over."""
        self._counter(call.method, code).inc()
        if not is_stream:
            self._duration(call.method).observe(seconds)
        if self._audits:
            logs.audit(
                method=call.method,
                subject=call.identity.subject,
                roles=call.identity.roles,
                peer=call.peer,
                code=code.name,
                latency_ms=seconds * 1000,
                request_id=call.request_id,
                job_id=call.job_id,
                worker_id=call.worker_id,
            )

    def _counter(self, method: str, code: StatusCode) -> Counter:
        counter = self._counters.get((method, code))
        if counter is None:
            counter = self._counters[method, code] = metrics.GRPC_CALLS.labels(method=method, code=code.name)
        return counter

    def _duration(self, method: str) -> Histogram:
        duration = self._durations.get(method)
        if duration is None:
            duration = self._durations[method] = metrics.GRPC_CALL_DURATION.labels(method=method)
        return duration
