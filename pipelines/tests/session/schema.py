"""The GraphQL schema of the Dagger API, derived from the client that the installed SDK generated from it.

An engine can't run everywhere, but its API is written down in `dagger/client/gen.py`: each method there names the field
that it selects, its arguments with their types, and what it makes. Reading that file gives a schema of exactly the
version that is installed, so that a call which the API doesn't have is refused here as it would be by an engine.
"""

import ast
import importlib.util
import pathlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLEnumValue,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
)

BUILTINS = {"str": GraphQLString, "int": GraphQLInt, "bool": GraphQLBoolean, "float": GraphQLFloat}


@dataclass(frozen=True, slots=True)
class Derived:
    """A schema, and what a schema can't say: of which object type the ID in an argument has to be."""

    schema: GraphQLSchema
    ids: Mapping[tuple[str, str, str], str]
    """(type, field, argument) → object type, or "Node" where any will do"""


@dataclass(slots=True)
class _Field:
    """One method of a generated class, as far as the schema is concerned."""

    name: str
    makes: str
    """The annotation of what the field gives, such as `list[str]`, `str | None` or `Container`"""
    arguments: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """Name → annotation, and whether the argument has to be there"""


def installed() -> pathlib.Path:
    """The generated client of the installed SDK."""
    spec = importlib.util.find_spec("dagger.client.gen")
    assert spec is not None
    assert spec.origin is not None
    return pathlib.Path(spec.origin)


def derive(generated: pathlib.Path) -> Derived:
    """Read the schema out of a generated client."""
    classes = {node.name: node for node in ast.parse(generated.read_text()).body if isinstance(node, ast.ClassDef)}
    return _Derivation(classes).derive()


def _base(node: ast.ClassDef) -> str:
    return ast.unparse(node.bases[0]) if node.bases else ""


class _Derivation:
    def __init__(self, classes: Mapping[str, ast.ClassDef]) -> None:
        self.classes = classes
        self.types: dict[str, GraphQLNamedType] = {}
        self.interfaces: dict[str, GraphQLInterfaceType] = {}
        self.ids: dict[tuple[str, str, str], str] = {}
        self.fields = {name: list(_fields(node)) for name, node in classes.items() if _base(node) in {"Type", "Root"}}

    def derive(self) -> Derived:
        for name, node in self.classes.items():
            match _base(node):
                case "Scalar" if not name.endswith("ID"):
                    self.types[name] = GraphQLScalarType(name)
                case "Enum":
                    self.types[name] = GraphQLEnumType(
                        name, {member: GraphQLEnumValue(member) for member in _members(node)}
                    )
                case "Input":
                    self.types[name] = GraphQLInputObjectType(name, self._input(node))
        for name, node in self.classes.items():
            if _base(node) == "Protocol":
                self.interfaces[name] = GraphQLInterfaceType(name, self._later(f"_{name}Client", name))
                self.types[name] = self.interfaces[name]
        for name, node in self.classes.items():
            if _base(node) in {"Type", "Root"} and not name.startswith("_"):
                kept = self._implemented(name)
                self.types[name] = GraphQLObjectType(name, self._later(name, name), interfaces=kept)
        query = self.types["Query"]
        assert isinstance(query, GraphQLObjectType)
        schema = GraphQLSchema(query=query, types=list(self.types.values()))
        return Derived(schema, self.ids)

    def _implemented(self, name: str) -> list[GraphQLInterfaceType]:
        """An object implements an interface whose fields it has: the generated classes don't say it otherwise."""
        own = {one.name for one in self.fields[name]}
        return [
            interface
            for interface_name, interface in self.interfaces.items()
            if {one.name for one in self.fields[f"_{interface_name}Client"]} <= own
        ]

    def _later(self, cls: str, type_name: str) -> Callable[[], dict[str, GraphQLField]]:
        return lambda: {one.name: self._field(one, type_name) for one in self.fields[cls]}

    def _field(self, one: _Field, type_name: str) -> GraphQLField:
        arguments = {}
        for name, (annotation, required) in one.arguments.items():
            kind = self._type(annotation, into=True, key=(type_name, one.name, name))
            nullable = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
            arguments[name] = GraphQLArgument(kind if required else nullable)
        return GraphQLField(self._type(one.makes), args=arguments)

    def _input(self, node: ast.ClassDef) -> dict[str, GraphQLInputField]:
        fields = {}
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                kind = self._type(ast.unparse(statement.annotation), into=True)
                fields[statement.target.id] = GraphQLInputField(kind)
        return fields

    def _type(self, annotation: str, *, into: bool = False, key: tuple[str, str, str] | None = None):  # type: ignore[no-untyped-def]
        annotation = annotation.replace("'", "").replace('"', "")
        if annotation.endswith(" | None"):
            kind = self._type(annotation.removesuffix(" | None"), into=into, key=key)
            return kind.of_type if isinstance(kind, GraphQLNonNull) else kind
        if annotation.startswith("list["):
            inner = self._type(annotation[len("list[") : -1], into=into, key=key)
            return GraphQLNonNull(GraphQLList(inner))
        if annotation in BUILTINS:
            return GraphQLNonNull(BUILTINS[annotation])
        if annotation == "ID" or annotation.endswith("ID"):
            return GraphQLNonNull(GraphQLID)
        plain = GraphQLScalarType | GraphQLEnumType | GraphQLInputObjectType
        if into and not isinstance(self.types.get(annotation), plain):
            # An object is handed over as its ID. `Type` stands for an object of any type.
            if key is not None:
                self.ids[key] = "Node" if annotation == "Type" else annotation
            return GraphQLNonNull(GraphQLID)
        return GraphQLNonNull(self.types[annotation])


def _members(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id


def _fields(node: ast.ClassDef) -> Iterator[_Field]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
            one = _method(method, node.name)
            if one is not None:
                yield one


def _method(method: ast.FunctionDef | ast.AsyncFunctionDef, cls: str) -> _Field | None:
    """The field that a method selects; none where it selects nothing, as `with_` and `__await__` do."""
    calls = [node for node in ast.walk(method) if isinstance(node, ast.Call)]
    name = next((found for call in calls if (found := _selected(call)) is not None), None)
    if name is None:
        return None
    annotations = {
        argument.arg: ast.unparse(argument.annotation)
        for argument in [*method.args.args, *method.args.kwonlyargs]
        if argument.annotation is not None
    }
    one = _Field(name, _makes(name, method, calls))
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "Arg":
            argument, value, *default = call.args
            assert isinstance(argument, ast.Constant)
            parameter = next(n.id for n in ast.walk(value) if isinstance(n, ast.Name) and n.id in annotations)
            annotation = annotations[parameter]
            one.arguments[str(argument.value)] = (cls if annotation == "Self" else annotation, not default)
    return one


def _selected(call: ast.Call) -> str | None:
    """The field's name in `self._select("name", …)` and `self._ctx.execute_sync(self, "name", …)`."""
    match ast.unparse(call.func):
        case "self._select":
            chosen = call.args[0]
        case "self._ctx.execute_sync":
            chosen = call.args[1]
        case _:
            return None
    assert isinstance(chosen, ast.Constant)
    return str(chosen.value)


def _makes(name: str, method: ast.FunctionDef | ast.AsyncFunctionDef, calls: list[ast.Call]) -> str:
    for call in calls:
        match ast.unparse(call.func):
            case "self._ctx.execute_sync":
                return "ID"
            case "_ctx.execute_object_list":
                return f"list[{ast.unparse(call.args[0])}]"
            case "_ctx.execute":
                if name == "id":
                    return "ID"
                return ast.unparse(call.args[0]) if call.args else "Void | None"
    returned = next(node.value for node in ast.walk(method) if isinstance(node, ast.Return))
    assert isinstance(returned, ast.Call)
    made = ast.unparse(returned.func)
    return made[1:].removesuffix("Client") if made.startswith("_") else made
