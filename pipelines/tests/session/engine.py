"""Calls the module's functions as an engine does: through the entry point of the SDK, over a session."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import anyio
from dagger.mod import cli

from session.execution import Execution
from session.recipe import Recipe, decode
from session.server import FunctionCall, SessionServer

MAIN_OBJECT = "Dispatchd"


class CallFailed(Exception):
    """The function raised; the message is the one that a person sees."""


class Engine:
    """Registers the module, makes its main object, and calls functions of that."""

    def __init__(self, server: SessionServer) -> None:
        self._server = server

    @cached_property
    def module(self) -> Recipe:
        """The module with all its types, as it describes itself."""
        return decode(self._call("", "", "", {}, Execution()))

    @cached_property
    def _state(self) -> dict[str, Any]:
        return self.construct({})

    def construct(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a new main object; what the caller leaves out is filled in as an engine would."""
        given = _completed(constructor_of(self.module), arguments)
        state = self._call(MAIN_OBJECT, "", "{}", given, Execution())
        assert isinstance(state, dict)
        return state

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        execution: Execution | None = None,
        constructor: Mapping[str, Any] | None = None,
    ) -> Any:
        """What a function gives: a plain value, or the recipe of an object."""
        functions = declared(self.module)
        given = _completed(functions[name], arguments or {})
        state = self.construct(constructor) if constructor else self._state
        value = self._call(MAIN_OBJECT, name, json.dumps(state), given, execution or Execution())
        kind = returned(functions[name])
        return decode(value) if kind.startswith("object ") else value

    def _call(self, parent_name: str, name: str, parent: str, inputs: Mapping[str, Any], execution: Execution) -> Any:
        encoded = {key: json.dumps(value.id if isinstance(value, Recipe) else value) for key, value in inputs.items()}
        call = FunctionCall(parent_name, name, parent, encoded, execution)
        with self._server.serving(call):
            code = anyio.run(cli.main, None, False)
        assert not call.refused, call.refused[0]
        if call.error is not None:
            raise CallFailed(str(call.error.chain()[0].arguments["message"]))
        assert code in {None, 0}, code
        assert call.value is not None
        return json.loads(call.value)


def declared(module: Recipe) -> dict[str, Recipe]:
    """The functions of the main object by name."""
    functions = [step.arguments["function"] for step in module.unfold() if step.field == "withFunction"]
    return {function.chain()[0].arguments["name"]: function for function in functions}


def constructor_of(module: Recipe) -> Recipe:
    """The function that makes the main object."""
    function = next(step for step in module.unfold() if step.field == "withConstructor").arguments["function"]
    assert isinstance(function, Recipe)
    return function


def kind(type_def: Recipe) -> str:
    """A type in words: `string`, `list of string`, `object Directory`, with `optional` where it may be left out."""
    words, optional = "?", ""
    for step in type_def.chain():
        match step.field:
            case "withKind":
                words = step.arguments["kind"].removesuffix("_KIND").lower()
            case "withObject" | "withEnum" | "withScalar" | "withInterface":
                words = f"{step.field.removeprefix('with').lower()} {step.arguments['name']}"
            case "withListOf":
                words = f"list of {kind(step.arguments['elementType'])}"
            case "withOptional":
                optional = "optional "
    return optional + words


def returned(function: Recipe) -> str:
    """What a function returns, in words."""
    return kind(function.chain()[0].arguments["returnType"])


def parameters(function: Recipe) -> dict[str, Recipe]:
    """The `withArg` of each argument by name."""
    return {step.arguments["name"]: step for step in function.chain() if step.field == "withArg"}


def _completed(function: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call with the defaults, as an engine completes them."""
    known = parameters(function)
    assert set(given) <= set(known), f"{sorted(set(given) - set(known))} are no arguments; there are {sorted(known)}"
    completed: dict[str, Any] = dict(given)
    for name, parameter in known.items():
        if name in completed:
            continue
        if parameter.arguments.get("defaultValue") is not None:
            completed[name] = json.loads(parameter.arguments["defaultValue"])
        elif parameter.arguments.get("defaultPath"):
            completed[name] = _from_context(parameter)
        else:
            assert kind(parameter.arguments["typeDef"]).startswith("optional "), f"{name} has to be given"
    return completed


def _from_context(parameter: Recipe) -> Recipe:
    """The directory or Git reference that an engine loads for an argument with a default path."""
    path = parameter.arguments["defaultPath"]
    host = Recipe("Host", "host", {})
    match kind(parameter.arguments["typeDef"]).removeprefix("optional "):
        case "object Directory":
            arguments = {"path": path, "exclude": parameter.arguments.get("ignore") or []}
            return Recipe("Directory", "directory", arguments, host)
        case "object GitRef":
            directory = Recipe("Directory", "directory", {"path": path}, host)
            return Recipe("GitRef", "head", {}, Recipe("GitRepository", "asGit", {}, directory))
        case other:
            raise AssertionError(f"the session double loads no {other} from {path}")
