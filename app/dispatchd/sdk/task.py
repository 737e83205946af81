"""A task: the function behind a job type, with its payload and result types read from the type hints."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypeVar, get_type_hints

from dispatchd.sdk.durations import Seconds, seconds
from dispatchd.sdk.payload import Codec
from dispatchd.sdk.worker.context import TaskContext

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

_JOB_TYPE = re.compile(r"[A-Za-z0-9_\-:/@][A-Za-z0-9._\-:/@]{0,199}")


class Task(Generic[PayloadT, ResultT]):
    """What `@worker.task(...)` returns: submit it with `client.submit(task, payload)`, or call it like the function.

    `timeout` and `max_attempts` are defaults for submits, and upper bounds on the worker whatever the job says.
    """

    def __init__(
        self,
        job_type: str,
        function: Callable[..., Any],
        *,
        timeout: Seconds | None = None,
        max_attempts: int | None = None,
    ):
        if not _JOB_TYPE.fullmatch(job_type):
            raise ValueError(
                f"job type {job_type!r} must be 1 to 200 letters, digits and ._-:/@, and must not start with a dot"
            )
        if max_attempts is not None and not 1 <= max_attempts <= 100:
            raise ValueError(f"task {job_type}: max_attempts must be from 1 to 100, not {max_attempts}")
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise TypeError(f"task {job_type}: decorate a function, not {type(function).__name__}")
        shape = _Shape.of(job_type, function)
        self.job_type = job_type
        self.function = function
        self.max_attempts = max_attempts
        self.timeout = None if timeout is None else timedelta(seconds=seconds(timeout, "timeout"))
        if self.timeout is not None and not self.timeout:
            raise ValueError(f"task {job_type}: timeout must be longer than zero")
        self.is_async = inspect.iscoroutinefunction(function)
        try:
            self.payload: Codec[PayloadT] = Codec(shape.payload_type)
            self.result: Codec[ResultT] = Codec(shape.result_type, empty_none=True)
        except TypeError as exc:
            raise TypeError(f"task {job_type}: {exc}") from exc
        self._shape = shape

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function directly, as if it were not a task."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.job_type}>"

    @property
    def capability(self) -> str:
        """The part of the job type before the first dot."""
        return self.job_type.partition(".")[0]

    def bind(self, data: bytes, context: TaskContext) -> Callable[[], Any]:
        """Return the call that the signature asks for; `DecodeError` if the payload does not fit its type hint."""
        payload = self.payload.decode(data) if self._shape.takes_payload else None
        positional = [context if parameter.is_context else payload for parameter in self._shape.positional]
        named = {parameter.name: context if parameter.is_context else payload for parameter in self._shape.named}
        return partial(self.function, *positional, **named)


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    is_context: bool


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the signature asks for: at most one payload, and the context if a parameter is annotated with it."""

    positional: tuple[_Parameter, ...]
    named: tuple[_Parameter, ...]
    takes_payload: bool
    payload_type: Any
    result_type: Any

    @staticmethod
    def of(job_type: str, function: Callable[..., Any]) -> _Shape:
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as exc:
            raise TypeError(
                f"task {job_type}: the type hint {exc.name!r} is not known yet. "
                "Define it at module level, before the task."
            ) from exc
        positional: list[_Parameter] = []
        named: list[_Parameter] = []
        payload_name: str | None = None
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            is_context = hints.get(name) is TaskContext
            if not is_context and payload_name is not None:
                if parameter.default is parameter.empty or parameter.kind is parameter.POSITIONAL_ONLY:
                    raise TypeError(
                        f"task {job_type}: a task takes one payload and, if it likes, a TaskContext; "
                        f"{payload_name!r} and {name!r} are two payloads. Put them into one model or dataclass."
                    )
                continue
            if not is_context:
                payload_name = name
            (positional if parameter.kind is parameter.POSITIONAL_ONLY else named).append(_Parameter(name, is_context))
        return _Shape(
            positional=tuple(positional),
            named=tuple(named),
            takes_payload=payload_name is not None,
            payload_type=hints.get(payload_name, Any) if payload_name is not None else Any,
            result_type=hints.get("return", Any),
        )
