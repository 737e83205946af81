"""A GraphQL server on localhost that the SDK takes for an engine's session.

Every query is validated against the derived schema before it is answered. The one rule left out is
PossibleFragmentSpreads, which the SDK's own fragments on interfaces break (its client leaves it out too).
"""

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    PossibleFragmentSpreadsRule,
    execute_sync,
    get_named_type,
    parse,
    specified_rules,
    validate,
)

from session.execution import Execution
from session.recipe import Recipe, decode
from session.schema import Derived

TOKEN = "token-of-the-session-double"
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
RULES = [rule for rule in specified_rules if rule is not PossibleFragmentSpreadsRule]


@dataclass(slots=True)
class FunctionCall:
    """What the engine tells the module to do, and what the module tells the engine when it is done."""

    parent_name: str
    name: str
    parent: str
    inputs: Mapping[str, str]
    execution: Execution
    value: str | None = None
    error: Recipe | None = None
    queries: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Queries that don't fit the schema, with the reason: a fault of the module or of the SDK"""


class SessionServer:
    """Serves one function call after the other, always at the same port, which the SDK reads only once."""

    def __init__(self, derived: Derived) -> None:
        self._derived = derived
        self._call: FunctionCall | None = None
        self._introspection: dict[str, bytes] = {}
        self._valid: set[str] = set()
        """What was validated already, without what is in strings, which can't make a query valid or invalid"""
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._http.server_address[1]

    @contextmanager
    def running(self) -> "Iterator[SessionServer]":
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    @contextmanager
    def serving(self, call: FunctionCall) -> Iterator[None]:
        """Answer for one function call."""
        assert self._call is None, "one function call at a time"
        self._call = call
        try:
            yield
        finally:
            self._call = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                expected = "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode()
                if self.path != "/query" or self.headers["Authorization"] != expected:
                    self.send_error(401)
                    return
                answer = server.answer(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: what matters is kept with the call."""

        return Handler

    def answer(self, request: Mapping[str, Any]) -> bytes:
        query = request["query"]
        with self._lock:
            if "__schema" in query:
                # Each connection of the SDK starts with the same long question.
                if query not in self._introspection:
                    self._introspection[query] = self._executed(query, request)
                return self._introspection[query]
            assert self._call is not None, "no function is being called"
            self._call.queries.append(query)
            return self._executed(query, request)

    def _executed(self, query: str, request: Mapping[str, Any]) -> bytes:
        document = parse(query)
        refused = self._refused(query, document)
        if refused:
            if self._call is not None:
                self._call.refused.append(f"{refused[0].message}\n{query}")
            return json.dumps({"errors": [error.formatted for error in refused]}).encode()
        result = execute_sync(
            self._derived.schema,
            document,
            field_resolver=self._resolve,
            type_resolver=lambda value, _info, _abstract: value.type,
            variable_values=request.get("variables"),
        )
        return json.dumps(result.formatted).encode()

    def _refused(self, query: str, document: DocumentNode) -> list[GraphQLError]:
        shape = STRING.sub('""', query)
        if shape in self._valid:
            return []
        refused = validate(self._derived.schema, document, RULES)
        if not refused:
            self._valid.add(shape)
        return refused

    def _resolve(self, source: Recipe | None, info: "GraphQLResolveInfo[Any]", /, **arguments: Any) -> Any:
        owner, name = info.parent_type.name, info.field_name
        given = {key: self._handed_over((owner, name, key), value) for key, value in arguments.items()}
        made = get_named_type(info.return_type)
        if owner == "Query" and name == "node":
            return given["id"]
        if isinstance(made, GraphQLObjectType | GraphQLInterfaceType):
            one = Recipe(made.name, name, given, source)
            return self._list(one) if _is_list(info.return_type) else one
        assert source is not None, f"the session double has no answer for Query.{name}"
        if name == "id":
            return source.id
        assert self._call is not None
        if owner.startswith("FunctionCall"):
            return self._of_the_call(self._call, source, name, given)
        return self._call.execution.answer(source, name, given)

    def _handed_over(self, key: tuple[str, str, str], value: Any) -> Any:
        """The recipe of an object that is handed over as an ID; an ID of another type is refused."""
        expected = self._derived.ids.get(key)
        if expected is None:
            return value
        if isinstance(value, list):
            return [self._handed_over(key, inner) for inner in value]
        recipe = decode(value)
        if expected not in {"Node", "Exportable", "Syncer", recipe.type}:
            raise GraphQLError(f"{'.'.join(key)} takes a {expected}, and got a {recipe.type}")
        return recipe

    def _list(self, one: Recipe) -> list[Recipe]:
        if one.type != "FunctionCallArgValue":
            raise GraphQLError(f"the session double has no list of {one.type}")
        assert self._call is not None
        return [Recipe(one.type, one.field, {"input": name}, one.parent) for name in self._call.inputs]

    @staticmethod
    def _of_the_call(call: FunctionCall, source: Recipe, name: str, arguments: Mapping[str, Any]) -> Any:
        match source.type, name:
            case "FunctionCall", "parentName":
                return call.parent_name
            case "FunctionCall", "name":
                return call.name
            case "FunctionCall", "parent":
                return call.parent
            case "FunctionCallArgValue", "name":
                return source.arguments["input"]
            case "FunctionCallArgValue", "value":
                return call.inputs[source.arguments["input"]]
            case "FunctionCall", "returnValue":
                call.value = arguments["value"]
                return None
            case "FunctionCall", "returnError":
                call.error = arguments["error"]
                return None
        raise GraphQLError(f"the session double has no answer for {source.type}.{name}")


def _is_list(kind: Any) -> bool:
    return isinstance(kind.of_type if isinstance(kind, GraphQLNonNull) else kind, GraphQLList)
