"""One pipeline around every unary call, free of any transport: identity, handler, error, then audit and metrics.

::

    (method, metadata, peer, read) ──▶ identity ──▶ bytes read ──▶ handler ──▶ bytes or status ──▶ audit line, metrics

Nothing of a call is read before its caller is known: strangers can't fill the memory.
"""

import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from prometheus_client import Counter, Histogram

from dispatchd.adapters.grpc.slow_peers import UnreadAnswers
from dispatchd.adapters.grpc.status import Status, StatusCode, status_of
from dispatchd.domain import limits
from dispatchd.domain.access import ANONYMOUS, Identity, check_may_call
from dispatchd.domain.errors import DispatchdError, InvalidRequest, Unavailable
from dispatchd.telemetry import logs, metrics

REQUEST_ID = "x-request-id"
AUTHORIZATION = "authorization"
_REQUEST_ID_CHARACTERS = 200
CHANGES = frozenset(
    {"JobService.SubmitJob", "JobService.SubmitJobs", "JobService.CancelJob", "OperatorService.RedriveDeadLetters"}
)
"""What they do is done when they have an answer: to refuse that would be to deny it."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """A call as a handler sees it; the handler notes what the audit line should name."""

    method: str
    metadata: Mapping[str, str] = field(repr=False)
    peer: str
    headers: int = 0
    """How many there are, each as often as it was sent."""
    certificate_names: tuple[str, ...] = ()
    """The subject alternative names of the client certificate."""
    time_remaining: timedelta | None = None
    identity: Identity = ANONYMOUS
    request_id: str = ""
    job_id: str | None = None
    worker_id: str | None = None


Handler = Callable[[Call, bytes], Awaitable[bytes]]
Read = Callable[[], Awaitable[bytes | None]]
"""Reads the message of a call; None when the caller ends it without one. Raises Overloaded."""


class Authenticator(Protocol):
    """Knows callers by their tokens."""

    def identify(self, authorization: str | None) -> Identity:
        """Who sent this `authorization` header. Raises Unauthenticated."""


class CallPipeline:
    """Runs handlers; `answer` never raises but for cancellation. Without an authenticator everybody may do all."""

    def __init__(self, authenticator: Authenticator | None = None, *, audits: bool) -> None:
        self._authenticator = authenticator
        self._audits = audits
        self._unread = UnreadAnswers()
        self._random = random.Random()
        self._counters: dict[tuple[str, StatusCode], Counter] = {}
        self._durations: dict[str, Histogram] = {}

    def begin(self, call: Call) -> None:
        """Request id and identity of a call. Raises Unauthenticated and PermissionDenied."""
        given = call.metadata.get(REQUEST_ID, "")
        call.request_id = given[:_REQUEST_ID_CHARACTERS] if given else f"{self._random.getrandbits(64):016x}"
        if call.headers > limits.HEADERS:
            raise InvalidRequest("", f"a call may have {limits.HEADERS} headers, this one has {call.headers}")
        if self._authenticator is None:
            if call.certificate_names:
                call.identity = replace(ANONYMOUS, certificate_names=call.certificate_names)
            return
        identity = self._authenticator.identify(call.metadata.get(AUTHORIZATION))
        call.identity = replace(identity, certificate_names=call.certificate_names)
        check_may_call(call.identity, call.method)

    def admitted(self, call: Call) -> Status | None:
        """For what a library serves: None if the caller may, else the status of the refusal; either is audited."""
        status = None
        try:
            self.begin(call)
        except DispatchdError as exc:
            status = status_of(exc)
        self.end(call, StatusCode.OK if status is None else status.code, 0.0, is_stream=True)
        return status

    async def answer(self, handler: Handler, call: Call, read: Read) -> bytes | Status:
        """The handler's bytes, or the status of its error. In a task of its own, which ends when the answer is sent."""
        started = time.perf_counter()
        code = StatusCode.CANCELLED
        try:
            self.begin(call)
            request = await read()
            if request is None:
                raise InvalidRequest("", "the call has no message")
            # Each call has a task of its own, so its id need not be taken off again.
            logs.bind_request(call.request_id)
            answer = await handler(call, request)
            subject = call.identity.subject if call.identity.has_token else None
            self._unread.hold(len(answer), subject, is_late=call.method in CHANGES)
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

    def opened(self, call: Call) -> None:
        """The audit line of a stream that begins; `end` writes that of its end."""
        self._audit("stream opened", call, StatusCode.OK, 0.0)

    def end(self, call: Call, code: StatusCode, seconds: float, *, is_stream: bool = False) -> None:
        """Metrics and the audit line of a call that is over."""
        self._counter(call.method, code).inc()
        if not is_stream:
            self._duration(call.method).observe(seconds)
        self._audit("stream closed" if is_stream else "call", call, code, seconds)

    def _audit(self, event: str, call: Call, code: StatusCode, seconds: float) -> None:
        if self._audits:
            logs.audit(
                event,
                method=call.method,
                subject=call.identity.subject,
                roles=sorted(call.identity.roles),
                certificate=call.certificate_names,
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
