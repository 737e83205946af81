"""Which metrics an expression of Prometheus names, and the labels by which it chooses their series."""

from dataclasses import dataclass

import promql_parser


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, and the labels by which its series are chosen."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> list[Selector]:
    """Every metric of the expression, in its order. Raises ValueError if it is none that Prometheus would take."""
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(Selector(node.name or "", frozenset(each.name for each in node.matchers.matchers)))

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found
