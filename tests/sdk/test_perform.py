"""What a task's value or exception becomes on the wire."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from dispatchd import Fail, Retry, Task, TaskContext
from dispatchd.sdk.worker.perform import MAX_ERROR_BYTES, MAX_RESULT_BYTES, Call, cut, perform, perform_in_thread
from dispatchd.v1 import dispatchd_pb2 as v1


def make_call(
    function: Callable[..., Any],
    payload: bytes = b"1",
    *,
    attempt: int = 1,
    max_attempts: int | None = None,
    timeout_s: float | None = None,
) -> Call:
    context = TaskContext(
        job_id="job_1", execution_id="exec_1", job_type="report", attempt=attempt, metadata={}, deadline=None
    )
    task: Task[Any, Any] = Task("report", function, max_attempts=max_attempts)
    return Call(task, payload, context, timeout_s)


def raising(error: BaseException) -> Callable[[int], None]:
    def task(value: int) -> None:
        raise error

    return task


class CardDeclined(Exception):
    pass


async def test_a_value_is_a_success() -> None:
    async def double(value: int) -> int:
        return value * 2

    assert await perform(make_call(double, b"21")) == v1.TaskResult(execution_id="exec_1", success=True, payload=b"42")


def test_an_exception_is_a_failure_that_is_tried_again() -> None:
    result = perform_in_thread(make_call(raising(CardDeclined("no money"))))
    assert (result.success, result.do_not_retry, result.HasField("retry_after")) == (False, False, False)
    assert (result.error_message, result.error_type) == ("no money", f"{CardDeclined.__module__}.CardDeclined")


def test_an_exception_without_a_message_names_its_class() -> None:
    result = perform_in_thread(make_call(raising(ValueError())))
    assert (result.error_message, result.error_type) == ("ValueError", "ValueError")


def test_retry_says_when() -> None:
    result = perform_in_thread(make_call(raising(Retry("busy", after=timedelta(seconds=90)))))
    assert (result.do_not_retry, result.retry_after.ToTimedelta()) == (False, timedelta(seconds=90))
    assert (result.error_message, result.error_type) == ("busy", "Retry")


def test_retry_without_a_time_leaves_it_to_the_policy() -> None:
    assert not perform_in_thread(make_call(raising(Retry()))).HasField("retry_after")


def test_retry_is_at_most_seven_days() -> None:
    result = perform_in_thread(make_call(raising(Retry(after=timedelta(days=30)))))
    assert result.retry_after.ToTimedelta() == timedelta(days=7)


def test_fail_is_not_tried_again() -> None:
    result = perform_in_thread(make_call(raising(Fail("no such customer", error_type="NoCustomer"))))
    assert (result.do_not_retry, result.error_message, result.error_type) == (True, "no such customer", "NoCustomer")


@pytest.mark.parametrize("error", [ValueError("x"), Retry("x", after=5)])
@pytest.mark.parametrize(("attempt", "is_last"), [(2, False), (3, True), (4, True)])
def test_from_the_tasks_max_attempts_on_nothing_is_tried_again(error: Exception, attempt: int, is_last: bool) -> None:
    result = perform_in_thread(make_call(raising(error), attempt=attempt, max_attempts=3))
    assert result.do_not_retry is is_last
    assert result.HasField("retry_after") is (isinstance(error, Retry) and not is_last)


async def test_a_payload_that_does_not_fit_is_not_tried_again() -> None:
    async def double(value: int) -> int:
        raise AssertionError("must not be called")

    result = await perform(make_call(double, b'"many"'))
    assert (result.do_not_retry, result.error_type) == (True, "PayloadMismatch")
    assert "the payload does not fit task report: value: Input should be a valid integer" in result.error_message


def test_a_result_that_is_too_large_is_not_tried_again() -> None:
    def task(value: int) -> bytes:
        return bytes(MAX_RESULT_BYTES + value)

    assert perform_in_thread(make_call(task, b"0")).success
    result = perform_in_thread(make_call(task, b"1"))
    assert (result.do_not_retry, result.error_type, result.payload) == (True, "ResultTooLarge", b"")
    assert "1,048,577 bytes" in result.error_message


def test_a_result_that_json_cannot_say_is_not_tried_again() -> None:
    def task(value: int) -> Any:
        return object()

    result = perform_in_thread(make_call(task))
    assert (result.do_not_retry, result.error_type) == (True, "ResultMismatch")


def test_a_plain_function_that_returns_a_coroutine_is_told_so() -> None:
    async def inner() -> None: ...

    def task(value: int) -> Any:
        return inner()

    result = perform_in_thread(make_call(task))
    assert (result.do_not_retry, "async def" in result.error_message) == (True, True)


def test_long_errors_are_cut_between_characters() -> None:
    result = perform_in_thread(make_call(raising(ValueError("é" * MAX_ERROR_BYTES))))
    assert result.error_message == "é" * (MAX_ERROR_BYTES // 2)


@pytest.mark.parametrize(
    ("text", "limit_bytes", "kept"), [("abc", 3, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("a\ud800", 9, "a?")]
)
def test_cut(text: str, limit_bytes: int, kept: str) -> None:
    assert cut(text, limit_bytes) == kept


def test_a_thread_outlives_whatever_its_function_raises() -> None:
    result = perform_in_thread(make_call(raising(SystemExit("bye"))))
    assert (result.success, result.error_type, result.error_message) == (False, "SystemExit", "bye")


async def test_a_task_that_exits_is_a_failure() -> None:
    async def leave(value: int) -> None:
        raise SystemExit(3)

    assert (await perform(make_call(leave))).error_type == "SystemExit"


async def test_a_timeout_is_a_failure_that_is_tried_again() -> None:
    async def forever(value: int) -> None:
        await asyncio.Event().wait()

    result = await perform(make_call(forever, timeout_s=0.05))
    assert (result.success, result.do_not_retry, result.error_type) == (False, False, "Timeout")
    assert "0.05 s" in result.error_message


async def test_a_tasks_own_timeout_error_is_its_own() -> None:
    async def own(value: int) -> None:
        raise TimeoutError("the printer")

    result = await perform(make_call(own, timeout_s=60))
    assert (result.error_type, result.error_message) == ("TimeoutError", "the printer")


async def test_a_task_that_cancels_itself_has_failed() -> None:
    async def cancel_itself(value: int) -> None:
        raise asyncio.CancelledError

    assert (await perform(make_call(cancel_itself))).error_type == "CancelledError"


async def begin(function: Callable[..., Any], is_running: asyncio.Event) -> asyncio.Task[v1.TaskResult]:
    task = asyncio.create_task(perform(make_call(function)))
    await is_running.wait()
    return task


async def test_a_cancellation_by_the_worker_is_no_result() -> None:
    is_running = asyncio.Event()

    async def forever(value: int) -> None:
        is_running.set()
        await asyncio.Event().wait()

    task = await begin(forever, is_running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_goes_wrong_while_cancelled_is_no_failure_of_the_job() -> None:
    is_running = asyncio.Event()

    async def clumsy(value: int) -> None:
        try:
            is_running.set()
            await asyncio.Event().wait()
        finally:
            raise LookupError("in the clean-up")

    task = await begin(clumsy, is_running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_finishes_in_spite_of_its_cancellation_has_a_result() -> None:
    is_running = asyncio.Event()

    async def stubborn(value: int) -> int:
        try:
            is_running.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return value

    task = await begin(stubborn, is_running)
    task.cancel()
    assert (await task).payload == b"1"
