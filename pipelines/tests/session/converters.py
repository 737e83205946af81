"""Makes the SDK quicker without changing what it does: a test would wait for little else.

The SDK makes a converter for each field that it selects, a thousand in one call of `ci`, which takes more time than all
else. What it does to plain values is the same in each; only what turns an answer into objects belongs to its place. So
one is made here for all plain values, and others when an answer has objects in it.
"""

from typing import Any

from dagger.client import _core

_make = _core.make_converter


class _Converter:
    """The converter of one place in a query."""

    def __init__(self, context: _core.Context) -> None:
        self._context = context

    def unstructure(self, value: Any) -> Any:
        return _shared.unstructure(value)

    def structure(self, value: Any, kind: Any) -> Any:
        has_objects = isinstance(value, dict | list)
        return (_make(self._context) if has_objects else _shared).structure(value, kind)


_shared = _make(None)  # type: ignore[arg-type]  # which is no place


def make_when_needed() -> None:
    """Let the SDK have such converters from now on."""
    _core.make_converter = _Converter  # type: ignore[assignment]
