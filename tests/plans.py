"""The plans that statements really get: under the connection's own settings, generic, with their values, measured.

Each statement of a store is explained first, in a transaction that is rolled back, and then run for real.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from dispatchd.adapters.postgres.database import Connection, Record
from dispatchd.adapters.postgres.queries import Query

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of a statement did."""

    root: Node

    def nodes(self) -> Iterator[Node]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def scanned_tables(self) -> set[str]:
        """Tables that were read from end to end."""
        return {str(node["Relation Name"]) for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    @property
    def rows(self) -> int:
        """Rows that were touched: returned or thrown away by any node."""
        thrown = ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
        total = 0.0
        for node in self.nodes():
            total += (node["Actual Rows"] + sum(node.get(name, 0) for name in thrown)) * node["Actual Loops"]
        return round(total)

    @property
    def blocks(self) -> int:
        """Pages that were looked at, in memory or not."""
        return int(self.root["Shared Hit Blocks"]) + int(self.root["Shared Read Blocks"])

    def text(self) -> str:
        """The tree, for people."""

        def lines(node: Node, depth: int) -> Iterator[str]:
            name = " ".join(str(node[key]) for key in ("Node Type", "Relation Name", "Index Name") if key in node)
            removed = [f"{key}={node[key]}" for key in node if key.startswith("Rows Removed")]
            rows = f"rows={node['Actual Rows']:g} loops={node['Actual Loops']:g}"
            yield f"{'  ' * depth}{name} {rows} {' '.join(removed)} {node.get('Index Cond', '')}"
            for child in node.get("Plans", []):
                yield from lines(child, depth + 1)

        return "\n".join(lines(self.root, 0))


@dataclass(slots=True)
class Plans:
    """By the statement's name, every run."""

    of: "defaultdict[str, list[Plan]]" = field(default_factory=lambda: defaultdict(list))

    def take(self) -> dict[str, list[Plan]]:
        """What was run since the last time."""
        taken, self.of = dict(self.of), defaultdict(list)
        return taken


@contextmanager
def explained() -> Iterator[Plans]:
    """Explains whatever runs on any connection of the stores."""
    plans = Plans()
    with pytest.MonkeyPatch.context() as patch:
        for method in ("rows", "row", "run"):
            patch.setattr(Connection, method, _explaining(plans, getattr(Connection, method)))
        yield plans


def _explaining(plans: Plans, really: Any) -> Any:
    async def run(self: Connection, query: Query, **values: object) -> Any:
        plans.of[query.name].append(Plan(await _explain(self, query, values)))
        return await really(self, query, **values)

    return run


async def _explain(connection: Connection, query: Query, values: dict[str, object]) -> Node:
    raw = connection._raw
    inside = raw.is_in_transaction()
    name = f"explained_{query.name}"
    known: list[Record] = await raw.fetch("select 1 from pg_prepared_statements where name = $1", name)
    if not known:
        await raw.execute(f"prepare {name} as {query.sql}")
    literals = ", ".join(_literal(value) for value in query.arguments(values))
    call = f"execute {name}({literals})" if literals else f"execute {name}"
    await raw.execute("savepoint explained" if inside else "begin")
    try:
        text = await raw.fetchval(f"explain (analyze, buffers, format json) {call}")
    finally:
        await raw.execute("rollback to explained" if inside else "rollback")
    root: Node = json.loads(text)[0]["Plan"]
    return root


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return _quoted("{" + ",".join(_element(each) for each in value) + "}")
    if isinstance(value, bool | int):
        return str(value)
    return _quoted(_text(value))


def _element(value: object) -> str:
    if value is None:
        return "null"
    escaped = _text(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
