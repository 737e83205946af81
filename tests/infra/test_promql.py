"""Metrics are found in expressions, whatever stands around them."""

import pytest

from infra.promql import selectors


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("up", ["up"]),
        ("up == 0", ["up"]),
        ("absent(up{job=\"a\"})", ["up"]),
        ("sum by (role) (rate(a_total{code=~\"x|y\"}[5m])) > 1e3", ["a_total"]),
        ("sum(rate(a_total[5m])) by (role) / sum(rate(b_total[1h30m] offset 5m))", ["a_total", "b_total"]),
        ("a_seconds > 300 and on (region) group_left (primary) b == 1", ["a_seconds", "b"]),
        ("max(a) without (pod) unless bool_b", ["a", "bool_b"]),
        ("count_values(\"epoch\", a) > bool 1", ["a"]),
        ("histogram_quantile(0.99, sum by (le) (rate(a_seconds_bucket[5m])))", ["a_seconds_bucket"]),
        ("time() - a{x=\"b{c}\", y!='d'} > 26 * 3600", ["a"]),
    ],
)  # fmt: skip
def test_metrics_are_found(expression: str, metrics: list[str]) -> None:
    assert [each.metric for each in selectors(expression)] == metrics


def test_labels_of_a_metric_are_found() -> None:
    [found] = selectors("rate(a_total{code=~\"x|y\", method!='z=1'}[5m])")

    assert found.labels == {"code", "method"}
