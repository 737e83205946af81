"""Metrics are found in expressions, and what Prometheus would not take is refused."""

import pytest

from infra.promql import selectors


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("absent(up == 0)", ["up"]),
        ("sum by (role) (rate(a_total[5m])) / sum(rate(b_total[1h30m] offset 5m))", ["a_total", "b_total"]),
        ("a > 300 and on (region) b unless max(c) without (pod)", ["a", "b", "c"]),
        ("time() - 26 * 3600 > bool 0", []),
    ],
)
def test_metrics_are_found(expression: str, metrics: list[str]) -> None:
    assert [each.metric for each in selectors(expression)] == metrics


def test_labels_of_a_metric_are_found() -> None:
    [found] = selectors("rate(a_total{code=~\"x|y\", method!='z=1'}[5m])")

    assert found.labels == {"code", "method"}
    assert found.matchers == {("code", "=~x|y"), ("method", "!=z=1")}
    [found] = selectors('a{code="x"} offset 5m')
    assert found.matchers == {("code", "x")}


@pytest.mark.parametrize("expression", ["sum(a", "rate(a)", "a > and b"])
def test_what_prometheus_would_not_take_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        selectors(expression)
