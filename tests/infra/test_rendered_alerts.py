"""Alerts use only metrics that exist: dispatchd declares them, or a list names where they come from."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from dispatchd.cli.main import dispatchd
from dispatchd.domain.job import JobState
from dispatchd.telemetry import metrics
from infra.objects import ENVIRONMENTS, OUTSIDE_DEVELOPMENT, Object, Objects, of_kind
from infra.promql import Selector, selectors

ALERTS = {
    "DispatchdBackupAge",
    "DispatchdDeadLetters",
    "DispatchdEpochMismatch",
    "DispatchdLeaderAbsent",
    "DispatchdLeaseExpiries",
    "DispatchdOldestReadyJob",
    "DispatchdReplicationLag",
    "DispatchdRoleDown",
}

_ALERTS_SOURCE = Path(__file__).parents[2] / "infra" / "src" / "dispatchd_infra" / "manifests" / "alerts.py"

_BY_PROMETHEUS = frozenset({"job", "instance", "namespace", "pod", "container", "service", "endpoint"})
"""Labels that scraping adds."""


def _other_metrics() -> dict[str, str]:
    """The metrics that dispatchd does not declare, each with its source, as they are listed beside the alerts.

    Read from the text, because what is beside them is not installed here.
    """
    for statement in ast.parse(_ALERTS_SOURCE.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "OTHER_METRICS":
            listed: dict[str, str] = ast.literal_eval(statement.value)
            return listed
    raise AssertionError(f"{_ALERTS_SOURCE} has no OTHER_METRICS")


def _rules(objects: Objects) -> Iterator[Object]:
    for value in of_kind(objects, "PrometheusRule"):
        for group in value["spec"]["groups"]:
            yield from group["rules"]


def _expressions(objects: Objects) -> Iterator[str]:
    """Of alerts, and of autoscalers that ask Prometheus."""
    for rule in _rules(objects):
        yield rule["expr"]
    for value in of_kind(objects, "ScaledObject"):
        for trigger in value["spec"]["triggers"]:
            yield trigger["metadata"]["query"]


def _samples(metric: Metric) -> set[str]:
    """The names under which Prometheus finds a metric."""
    match metric.type:
        case "counter":
            return {f"{metric.name}_total"}
        case "histogram":
            return {f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")}
        case _:
            return {metric.name}


def _declared() -> dict[str, frozenset[str]]:
    """Our metrics, each with its labels."""
    labels = {
        declared._name: frozenset(declared._labelnames)
        for declared in vars(metrics).values()
        if isinstance(declared, MetricWrapperBase)
    }
    return {
        sample: labels.get(metric.name, frozenset()) | ({"le"} if sample.endswith("_bucket") else set())
        for metric in metrics.REGISTRY.collect()
        for sample in _samples(metric)
    }


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_the_alerts_are_exactly_these(environment: str, overlays: dict[str, Objects]) -> None:
    assert {rule["alert"] for rule in _rules(overlays[environment])} == ALERTS


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_metric_is_declared_or_has_a_named_source(environment: str, overlays: dict[str, Objects]) -> None:
    known = _declared().keys() | _other_metrics().keys()

    unknown = {each.metric for expression in _expressions(overlays[environment]) for each in selectors(expression)}

    assert sorted(unknown - known) == []


def test_the_example_scales_workers_by_a_metric_that_is_declared(worker_autoscaling: Objects) -> None:
    [query] = _expressions(worker_autoscaling)

    assert {each.metric for each in selectors(query)} <= _declared().keys()


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_expressions_choose_our_metrics_by_labels_that_they_have(
    environment: str, overlays: dict[str, Objects]
) -> None:
    declared = _declared()

    def strange(each: Selector) -> frozenset[str]:
        return each.labels - declared.get(each.metric, each.labels) - _BY_PROMETHEUS

    chosen = [each for expression in _expressions(overlays[environment]) for each in selectors(expression)]
    assert [(each.metric, sorted(strange(each))) for each in chosen if strange(each)] == []


def _values_in_the_code() -> dict[tuple[str, str], set[str]]:
    """For each of our metrics and each of its labels the values that the code gives it by name."""
    metric_of = {name: value._name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
    found: dict[tuple[str, str], set[str]] = {}
    for path in Path(metrics.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(value=ast.Name("metrics"), attr=name), attr="labels")
                ):
                    for keyword in node.keywords:
                        values = found.setdefault((metric_of[name], keyword.arg or ""), set())
                        match keyword.value:
                            case ast.Constant(value=str(value)):
                                values.add(value)
                            case ast.Attribute(value=ast.Name("JobState"), attr=state):
                                values.add(JobState[state])
    return found


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_expressions_choose_by_values_that_the_labels_have(environment: str, overlays: dict[str, Objects]) -> None:
    objects = overlays[environment]
    [monitor] = [each["spec"] for each in of_kind(objects, "ServiceMonitor")]
    [jobs] = monitor["selector"]["matchExpressions"]
    assert jobs["key"] == monitor["jobLabel"]
    [namespace] = {each["metadata"]["namespace"] for each in objects}
    by_prometheus = {"namespace": {namespace}, "job": set(jobs["values"])}
    in_the_code = _values_in_the_code()

    for expression in _expressions(objects):
        for each in selectors(expression):
            for label, value in each.matchers:
                possible = by_prometheus.get(label) or in_the_code[each.metric.removesuffix("_total"), label]
                assert value in possible, f"{each.metric}: {label} is never {value}"


def test_no_source_is_named_for_a_metric_that_nobody_uses(overlays: dict[str, Objects]) -> None:
    used = {each.metric for objects in overlays.values() for text in _expressions(objects) for each in selectors(text)}

    assert _other_metrics().keys() <= used
    assert all(_other_metrics().values())


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_every_alert_says_how_bad_it_is_and_what_to_do(environment: str, overlays: dict[str, Objects]) -> None:
    for rule in _rules(overlays[environment]):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["annotations"]["description"], rule["alert"]


@pytest.mark.parametrize("environment", OUTSIDE_DEVELOPMENT)
def test_commands_that_alerts_name_exist(environment: str, overlays: dict[str, Objects]) -> None:
    for rule in _rules(overlays[environment]):
        for command in re.findall(r"`dispatchd ([^`]+)`", rule["annotations"]["description"]):
            asked = CliRunner().invoke(dispatchd, [*command.split(), "--help"])
            assert asked.exit_code == 0, (rule["alert"], asked.output)
