"""How an object was made, step by step: what stands behind an ID of the session double.

An engine's IDs name objects that it holds. The double holds nothing: its IDs carry the whole way from `Query` to the
object, with the objects that were handed over on that way. So a test can unfold what a function returned, and see
every image, command, mount and secret that is part of it.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """An object of one type, made by a field of another object."""

    type: str
    field: str
    arguments: Mapping[str, Any]
    """Plain values, or recipes where an object was handed over"""
    parent: "Recipe | None" = None

    @property
    def id(self) -> str:
        text = json.dumps(_packed(self), separators=(",", ":"))
        return base64.b64encode(zlib.compress(text.encode())).decode()

    def chain(self) -> "list[Recipe]":
        """The steps that lead to this object, the first one first, without those of the objects handed over."""
        steps: list[Recipe] = []
        step: Recipe | None = self
        while step is not None:
            steps.append(step)
            step = step.parent
        return steps[::-1]

    def unfold(self) -> "Iterator[Recipe]":
        """Each step of this object and of all objects handed over on the way, in the order in which they are needed."""
        for step in self.chain():
            for value in step.arguments.values():
                for inner in value if isinstance(value, list) else [value]:
                    if isinstance(inner, Recipe):
                        yield from inner.unfold()
            yield step


def decode(id_: str) -> Recipe:
    """The recipe in an ID; fails on an ID that no double has made."""
    recipe = _unpacked(json.loads(zlib.decompress(base64.b64decode(id_))))
    assert isinstance(recipe, Recipe)
    return recipe


def _packed(value: Any) -> Any:
    if isinstance(value, Recipe):
        arguments = {name: _packed(inner) for name, inner in value.arguments.items()}
        return {"type": value.type, "field": value.field, "arguments": arguments, "parent": _packed(value.parent)}
    return [_packed(inner) for inner in value] if isinstance(value, list) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"type", "field", "arguments", "parent"}:
        arguments = {name: _unpacked(inner) for name, inner in value["arguments"].items()}
        return Recipe(value["type"], value["field"], arguments, _unpacked(value["parent"]))
    return [_unpacked(inner) for inner in value] if isinstance(value, list) else value
