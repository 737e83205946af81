"""What a decorated function's signature says about its payload, its result and its context."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from dispatchd import InvalidRequest, Task, TaskContext, Worker
from dispatchd.sdk.payload import DecodeError


@dataclass
class Pages:
    first: int
    last: int = 10


class Report(BaseModel):
    title: str
    pages: list[Pages]


def context() -> TaskContext:
    return TaskContext(job_id="job_1", execution_id="exec_1", job_type="report", attempt=1, metadata={}, deadline=None)


def tick() -> str:
    return "tick"


def call(task: Task[Any, Any], data: bytes) -> Any:
    return task.bind(data, context())()


def test_dataclasses_models_and_plain_types_are_read_and_written_as_json() -> None:
    def render(report: Report) -> dict[str, int]:
        return {report.title: sum(pages.last - pages.first for pages in report.pages)}

    task: Task[Report, dict[str, int]] = Task("report", render)
    data = task.payload.encode(Report(title="a", pages=[Pages(1), Pages(2, 4)]))
    assert data == b'{"title":"a","pages":[{"first":1,"last":10},{"first":2,"last":4}]}'
    assert task.result.encode(call(task, data)) == b'{"a":11}'
    assert task.result.decode(b'{"a":11}') == {"a": 11}


def test_bytes_pass_unread_both_ways() -> None:
    def reverse(data: bytes) -> bytes:
        return data[::-1]

    task: Task[bytes, bytes] = Task("report", reverse)
    assert task.payload.encode(b"\x00\xff") == b"\x00\xff"
    assert task.result.encode(call(task, b"\x00\xff")) == b"\xff\x00"
    assert task.result.decode(b"\xff\x00") == b"\xff\x00"


def test_without_type_hints_json_is_parsed_and_bytes_stay_bytes() -> None:
    def render(value):  # type: ignore[no-untyped-def]
        return value

    task: Task[Any, Any] = Task("report", render)
    assert call(task, b'{"a": [1, null]}') == {"a": [1, None]}
    assert task.result.encode(b"raw") == b"raw"
    assert task.result.encode({"a": 1}) == b'{"a":1}'


def test_a_task_that_returns_nothing_sends_no_bytes() -> None:
    def render(value: int) -> None: ...

    task: Task[int, None] = Task("report", render)
    assert task.result.encode(call(task, b"1")) == b""
    assert task.result.decode(b"") is None


def test_the_context_comes_wherever_it_is_annotated() -> None:
    def last(value: int, context: TaskContext) -> Any:
        return value, context.job_id

    def first(context: TaskContext, value: int) -> Any:
        return value, context.job_id

    def named(value: int, *, where: TaskContext, retries: int = 3) -> Any:
        return value, where.job_id

    def positional(value: int, where: TaskContext, /) -> Any:
        return value, where.job_id

    for function in (last, first, named, positional):
        assert call(Task("report", function), b"7") == (7, "job_1")


def test_a_task_may_take_nothing_at_all() -> None:
    def look(context: TaskContext) -> str:
        return context.execution_id

    assert call(Task("report", tick), b"whatever") == "tick"
    assert call(Task("report", look), b"whatever") == "exec_1"


def test_a_payload_that_does_not_fit_is_explained_by_field() -> None:
    def render(report: Report) -> None: ...

    with pytest.raises(DecodeError, match=r"pages\.0\.first: .*valid integer.*title: Field required|title.*pages"):
        call(Task("report", render), b'{"pages": [{"first": "x"}]}')
    with pytest.raises(DecodeError, match="Invalid JSON"):
        call(Task("report", render), b"{")


def test_two_payloads_are_refused() -> None:
    def render(first: int, second: int) -> None: ...

    with pytest.raises(TypeError, match="'first' and 'second' are two payloads"):
        Task("report", render)


def test_a_type_hint_that_json_cannot_say_is_refused() -> None:
    def render(value: TaskContext | int) -> None: ...

    with pytest.raises(TypeError, match="task report: JSON has no form for the type hint"):
        Task("report", render)


def test_a_type_hint_that_is_not_known_is_refused() -> None:
    def render(value: "Unknown") -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match="'Unknown' is not known yet"):
        Task("report", render)


@pytest.mark.parametrize("job_type", ["", ".report", "a b", "report\n", "x" * 201, "é"])
def test_a_job_type_that_the_server_would_refuse_is_refused(job_type: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 200"):
        Task(job_type, tick)


@pytest.mark.parametrize("bounds", [{"timeout": 0}, {"timeout": -1}, {"max_attempts": 0}, {"max_attempts": 101}])
def test_bounds_that_make_no_sense_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises((ValueError, InvalidRequest), match=r"timeout|max_attempts"):
        Task("report", tick, **bounds)


def test_a_worker_has_one_task_for_a_job_type() -> None:
    worker = Worker()

    @worker.task("report.render")
    def render(value: int) -> int:
        return value * 2

    assert render(4) == 8
    assert worker.tasks == {"report.render": render}
    with pytest.raises(ValueError, match="already"):
        worker.task("report.render")(tick)
    with pytest.raises(TypeError, match="decorate a function"):
        worker.task("report.other")(Report)  # type: ignore[arg-type]


def test_default_worker_ids_differ() -> None:
    first, second = Worker(), Worker()
    assert first.worker_id != second.worker_id
    assert len(first.worker_id.encode()) <= 200


@pytest.mark.parametrize("slots", [0, -1, 1_001])
def test_slots_outside_of_the_contract_are_refused(slots: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        Worker(max_concurrency=slots)
