"""Makes the SDK quicker without changing what it does: a test would wait for little else.

- It makes a converter for each field that it selects, a thousand in one call of `ci`. What a converter does to plain
  values is the same in each; only what turns an answer into objects belongs to its place. So one is made here for all
  plain values, and others when an answer has objects in it.
- For each call it builds a schema from the description that the session gives, which is the same each time, and reads
  the certificates of all public authorities, though nothing here is encrypted.
- For each request it looks all over the disk for `trio`, which is not installed.
"""

import sys
from functools import lru_cache
from importlib import import_module
from typing import Any

from dagger.client import _core
from graphql import GraphQLSchema

gql_client: Any = import_module("gql.client")
transports: Any = import_module("httpx._transports.default")
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


def make_sdk_quicker() -> None:
    """From now on, in this process."""
    _core.make_converter = _Converter  # type: ignore[assignment]
    build, built = gql_client.build_client_schema, list[GraphQLSchema]()

    def build_once(introspection: Any) -> GraphQLSchema:
        if not built:
            built.append(build(introspection))
        return built[0]

    gql_client.build_client_schema = build_once
    transports.create_ssl_context = lru_cache(transports.create_ssl_context)
    sys.modules.setdefault("trio", None)  # type: ignore[arg-type]
