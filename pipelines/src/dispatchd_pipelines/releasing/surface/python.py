"""The names that `import dispatchd` offers, with signatures, fields and values as they stand in the source."""

import dataclasses
import enum
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_overloads, is_typeddict

from dispatchd_pipelines.releasing.surface import Names

_PACKAGE = "dispatchd"
_SPECIAL = ("__init__", "__call__", "__enter__", "__aenter__")
"""The methods with two underscores that a user's program calls by other means."""


def python_names() -> Names:
    package = importlib.import_module(_PACKAGE)
    return {name: text for public in dir(package) for name, text in describe(public, getattr(package, public))}


def describe(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A name and, for a class, its public members. What a constructor sets is there as the constructor's parameters."""
    if not isinstance(value, type):
        yield name, _function(value)
        return
    bases = [base.__name__ for base in value.__bases__ if base is not object]
    yield name, f"class({', '.join(bases)})"
    for member, text in sorted(_members(value)):
        yield f"{name}.{member}", text


def _members(owner: type) -> Iterator[tuple[str, str]]:
    if is_typeddict(owner):
        yield from ((key, _annotation(value)) for key, value in owner.__annotations__.items())
    elif issubclass(owner, enum.Enum):
        yield from ((member.name, repr(member.value)) for member in owner)
    else:
        if dataclasses.is_dataclass(owner):
            yield from ((field.name, _field(field)) for field in dataclasses.fields(owner))
        yield from _attributes(owner)


def _attributes(owner: type) -> Iterator[tuple[str, str]]:
    """Methods and properties, also those of base classes in this package."""
    fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    seen = fields | ({"__init__"} if fields else set())
    for base in owner.__mro__:
        if not base.__module__.startswith(_PACKAGE):
            continue
        for name, value in vars(base).items():
            if name in seen or (name.startswith("_") and name not in _SPECIAL):
                continue
            seen.add(name)
            yield name, _attribute(value)


def _attribute(value: object) -> str:
    match value:
        case property(fget=getter) if getter is not None:
            return f"property -> {_annotation(inspect.signature(getter).return_annotation)}"
        case staticmethod() | classmethod():
            return f"{type(value).__name__} {_function(value.__func__)}"
        case _ if inspect.isfunction(value):
            return _function(value)
        case _:
            return repr(value)


def _function(function: Callable[..., Any]) -> str:
    """The signatures of all overloads, or else the only one."""
    return " or ".join(_signature(each) for each in get_overloads(function) or [function])


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    words, kinds = [], inspect.Parameter
    is_star_needed = True
    parameters = list(signature.parameters.values())
    for index, parameter in enumerate(parameters):
        if parameter.kind is kinds.VAR_POSITIONAL:
            is_star_needed = False
        elif parameter.kind is kinds.KEYWORD_ONLY and is_star_needed:
            words.append("*")
            is_star_needed = False
        words.append(_parameter(parameter))
        following = parameters[index + 1] if index + 1 < len(parameters) else None
        if parameter.kind is kinds.POSITIONAL_ONLY and getattr(following, "kind", None) is not kinds.POSITIONAL_ONLY:
            words.append("/")
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    returns = (
        "" if signature.return_annotation is signature.empty else f" -> {_annotation(signature.return_annotation)}"
    )
    return f"{prefix}({', '.join(words)}){returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))  # with its stars
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def _field(field: "dataclasses.Field[Any]") -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"{_annotation(field.type)} = {getattr(field.default_factory, '__name__', '…')}()"
    return _annotation(field.type) + ("" if field.default is dataclasses.MISSING else f" = {field.default!r}")


def _annotation(annotation: object) -> str:
    """As it stands in the source, where annotations are not evaluated."""
    if isinstance(annotation, str):
        return annotation
    return str(getattr(annotation, "__forward_arg__", None) or inspect.formatannotation(annotation))
