"""Metrics say what they mean and can't grow without bound."""

from dispatchd.telemetry.metrics import REGISTRY


def test_every_metric_says_its_meaning_and_has_only_bounded_labels() -> None:
    bounded = {"method", "code", "kind", "source", "end_reason", "state", "loop", "version", "role", "region", "le"}
    for metric in REGISTRY.collect():
        assert metric.name.startswith(("dispatchd_", "process_"))
        assert metric.documentation.endswith(".")
        assert {name for sample in metric.samples for name in sample.labels} <= bounded
