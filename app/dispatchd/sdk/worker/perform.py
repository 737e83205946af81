"""Running one task, and what its value or exception means to the server.

    value                    success, with the value as JSON or bytes
    Retry(after=...)         failure, tried again after that long
    Fail(...)                failure, not tried again
    payload does not fit     failure, not tried again
    result can't be sent     failure, not tried again
    timeout                  failure, tried again
    any other exception      failure, tried again
    cancelled by the worker  no result: the worker knows why it cancelled

From the task's own `max_attempts` on, no failure is tried again.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dispatchd.sdk.payload import DecodeError, EncodeError
from dispatchd.sdk.task import Task
from dispatchd.sdk.worker.context import Fail, Retry, TaskContext
from dispatchd.v1 import dispatchd_pb2 as v1

MAX_RESULT_BYTES = 1024 * 1024
MAX_ERROR_BYTES = 16 * 1024
MAX_ERROR_TYPE_BYTES = 200

logger = logging.getLogger("dispatchd.worker")


@dataclass(frozen=True, slots=True)
class Call:
    """One execution, ready to be run. `timeout_s` is the smaller of the job's and the task's own, if there is one."""

    task: Task[Any, Any]
    payload: bytes
    context: TaskContext
    timeout_s: float | None

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self.context.execution_id


async def perform(call: Call) -> v1.TaskResult:
    """Run an async task in the running loop. Only a cancellation by the worker comes out as an exception."""
    bound = asyncio.timeout(call.timeout_s)
    try:
        async with bound:
            value = await _bound(call)()
        return _success(call, value)
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        return failure(call, "the task cancelled itself", error_type="CancelledError")
    except (Exception, SystemExit) as exc:
        if _is_cancelled():
            # What goes wrong while a cancelled task cleans up is no failure of the job.
            logger.warning("execution %s failed while it was being cancelled", call.execution_id, exc_info=exc)
            raise asyncio.CancelledError from exc
        if isinstance(exc, TimeoutError) and bound.expired():
            return timed_out(call)
        return _failure_of(call, exc)


def perform_in_thread(call: Call) -> v1.TaskResult:
    """Run a plain function in the current thread."""
    try:
        value = _bound(call)()
        if inspect.iscoroutine(value):
            value.close()
            raise Fail("the function returned a coroutine: declare it with `async def`", error_type="TypeError")
        return _success(call, value)
    except BaseException as exc:  # the thread belongs to the worker and must outlive whatever the function raises
        return _failure_of(call, exc)


def failure(
    call: Call, message: str, *, error_type: str, retry_after_s: float | None = None, do_not_retry: bool = False
) -> v1.TaskResult:
    """Return the result of a failed attempt."""
    result = v1.TaskResult(
        execution_id=call.execution_id,
        success=False,
        error_message=cut(message, MAX_ERROR_BYTES),
        error_type=cut(error_type, MAX_ERROR_TYPE_BYTES),
        do_not_retry=do_not_retry or _is_last_attempt(call),
    )
    if retry_after_s is not None and not result.do_not_retry:
        result.retry_after.FromMicroseconds(round(retry_after_s * 1_000_000))
    return result


def timed_out(call: Call) -> v1.TaskResult:
    """Return the result of an attempt that took longer than its timeout."""
    return failure(call, f"the task took longer than its timeout of {call.timeout_s:.3g} s", error_type="Timeout")


def cut(text: str, limit_bytes: int) -> str:
    """Return `text` within `limit_bytes` of UTF-8, whole characters only, with what UTF-8 can't carry replaced."""
    return text.encode("utf-8", "replace")[:limit_bytes].decode("utf-8", "ignore")


def _bound(call: Call) -> Callable[[], Any]:
    try:
        return call.task.bind(call.payload, call.context)
    except DecodeError as exc:
        message = f"the payload does not fit task {call.task.job_type}: {exc}"
        raise Fail(message, error_type="PayloadMismatch") from exc


def _success(call: Call, value: Any) -> v1.TaskResult:
    try:
        payload = call.task.result.encode(value)
    except EncodeError as exc:
        raise Fail(f"the result cannot be sent: {exc}", error_type="ResultMismatch") from exc
    if len(payload) > MAX_RESULT_BYTES:
        raise Fail(
            f"the result has {len(payload):,} bytes; at most {MAX_RESULT_BYTES:,} are allowed. "
            "Store it elsewhere and return a reference.",
            error_type="ResultTooLarge",
        )
    return v1.TaskResult(execution_id=call.execution_id, success=True, payload=payload)


def _failure_of(call: Call, exc: BaseException) -> v1.TaskResult:
    if isinstance(exc, Retry):
        after_s = None if exc.after is None else exc.after.total_seconds()
        return failure(call, str(exc), error_type="Retry", retry_after_s=after_s)
    if isinstance(exc, Fail):
        return failure(call, str(exc), error_type=exc.error_type, do_not_retry=True)
    logger.warning("execution %s (%s) failed", call.execution_id, call.context.job_type, exc_info=exc)
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return failure(call, str(exc) or name, error_type=name)


def _is_last_attempt(call: Call) -> bool:
    return call.task.max_attempts is not None and call.context.attempt >= call.task.max_attempts


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
