"""Which metrics and labels an expression of Prometheus names. Enough of its grammar for that, and no more."""

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)"""
    r"""|(?P<range>\[[^\]]*\])"""
    r"""|(?P<grouping>\b(?:by|without|on|ignoring|group_left|group_right)\s*(?:\((?P<labels>[^)]*)\))?)"""
    r"""|(?P<matchers>\{(?P<inside>(?:[^}"']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')*)\})"""
    r"""|(?P<number>\b(?:[0-9]+(?:ms|[smhdwy]))+\b|[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"""
    r"""|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<call>\s*\()?"""
)
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"})
_TEXT = re.compile(r"""\"(?:[^"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'""")
_LABEL = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric, and the labels by which its series are chosen."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> list[Selector]:
    """Every metric of the expression, in its order. Functions, aggregations and grouping labels are none."""
    found: list[Selector] = []
    follows_a_metric = False
    for token in _TOKEN.finditer(expression):
        if token["matchers"] is not None and follows_a_metric:
            found[-1] = Selector(found[-1].metric, frozenset(_LABEL.findall(_TEXT.sub('""', token["inside"]))))
        follows_a_metric = False
        name = token["name"]
        if name is None or token["call"] or name.lower() in _WORDS or _is_aggregation(expression, token.end()):
            continue
        found.append(Selector(name, frozenset()))
        follows_a_metric = True
    return found


def _is_aggregation(expression: str, end: int) -> bool:
    """`sum by (role) (…)`: a name before its grouping."""
    return re.match(r"\s+(by|without)\b", expression[end:]) is not None
