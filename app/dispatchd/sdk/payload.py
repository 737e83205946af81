"""How Python values become payloads and results, and back: JSON by type hints, or bytes as they are."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

ValueT = TypeVar("ValueT")


class EncodeError(ValueError):
    """The value cannot be written as JSON."""


class DecodeError(ValueError):
    """The bytes do not fit the type."""


class Codec(Generic[ValueT]):
    """Writes and reads values of one type.

    `bytes` is passed as it is, None is written as no bytes where `empty_none` is set, everything else is JSON. `Any`
    stands for a value without a type hint: bytes stay bytes when written and JSON is parsed when read.
    """

    def __init__(self, value_type: Any, *, empty_none: bool = False):
        self._type = value_type
        self._raw = value_type is bytes
        self._empty_none = empty_none
        self._adapter: TypeAdapter[ValueT] | None = None
        if not self._raw and value_type is not Any:
            try:
                self._adapter = TypeAdapter(value_type)
            except PydanticUserError as exc:
                raise TypeError(f"JSON has no form for the type hint {value_type!r}") from exc

    def encode(self, value: ValueT) -> bytes:
        """Return the bytes for `value`; `EncodeError` if JSON has no form for it."""
        if isinstance(value, bytes) and (self._raw or self._adapter is None):
            return value
        if value is None and self._empty_none:
            return b""
        if self._raw:
            raise EncodeError(f"expected bytes, not {type(value).__name__}")
        try:
            if self._adapter is None:
                return to_json(value)
            # Lenient on purpose: what the type hint says is checked where the value is read.
            return self._adapter.dump_json(value, warnings="none")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
            raise EncodeError(f"{type(value).__name__} cannot be written as JSON: {exc}") from exc

    def decode(self, data: bytes) -> ValueT:
        """Return the value in `data`; `DecodeError` saying what does not fit."""
        value: Any
        if self._raw:
            value = data
        elif not data and self._empty_none:
            value = None
        elif self._adapter is None:
            value = _parsed(data)
        else:
            try:
                value = self._adapter.validate_json(data)
            except ValidationError as exc:
                raise DecodeError(_first_errors(exc)) from exc
        return value  # type: ignore[no-any-return]


def _parsed(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError as exc:
        raise DecodeError(f"it is not JSON: {exc}") from exc


def _first_errors(error: ValidationError, limit: int = 5) -> str:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(str(part) for part in each['loc']) or 'value'}: {each['msg']}" for each in errors[:limit]]
    if len(errors) > limit:
        lines.append(f"and {len(errors) - limit} more")
    return "; ".join(lines)
