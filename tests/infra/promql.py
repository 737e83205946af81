"""Which metrics an expression of Prometheus names, and the labels by which it chooses their series."""

from dataclasses import dataclass

import promql_parser


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, and the labels by which its series are chosen."""

    metric: str
    matchers: frozenset[tuple[str, str]]
    """Labels with what they are compared with; `failed` or, where the comparison is another one, `!=failed`."""

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(label for label, _ in self.matchers)


def selectors(expression: str) -> list[Selector]:
    """Every metric of the expression, in its order. Raises ValueError if it is none that Prometheus would take."""
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = frozenset((each.name, _compared(each)) for each in node.matchers.matchers)
            found.append(Selector(node.name or "", matchers))

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found


def _compared(matcher: promql_parser.Matcher) -> str:
    sign = {"Equal": "", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}[str(matcher.op).rpartition(".")[2]]
    return f"{sign}{matcher.value}"
