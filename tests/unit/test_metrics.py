"""Metrics say what they mean and can't grow without bound."""

from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from dispatchd.application.settler import Settler
from dispatchd.domain.ids import IdGenerator
from dispatchd.telemetry import metrics
from dispatchd.telemetry.metrics import JOBS_FINISHED, REGISTRY


def test_every_metric_says_its_meaning_and_has_only_bounded_labels() -> None:
    bounded = {"method", "code", "kind", "source", "end_reason", "state", "loop", "version", "role", "region", "le"}
    # A metric with labels has no sample before it is used, so that its declaration has to be asked.
    declared = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    assert JOBS_FINISHED in declared
    assert {label for each in declared for label in each._labelnames} <= bounded
    for metric in REGISTRY.collect():
        assert metric.name.startswith(("dispatchd_", "process_"))
        assert metric.documentation.endswith(".")
        assert {name for sample in metric.samples for name in sample.labels} <= bounded


def test_the_first_dead_letter_of_a_process_is_an_increase_from_zero() -> None:
    JOBS_FINISHED.clear()
    nothing_is_settled: Any = None

    Settler(nothing_is_settled, nothing_is_settled, nothing_is_settled, IdGenerator())

    assert REGISTRY.get_sample_value("dispatchd_jobs_finished_total", {"state": "failed"}) == 0
