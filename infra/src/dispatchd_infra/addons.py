"""The operators that staging and production need, with what is chosen in their charts. dev needs none of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dispatchd_infra.settings import Chart, Common


@dataclass(frozen=True, slots=True)
class Addon:
    """A chart, and the values that differ from its own."""

    chart: Chart
    values: Mapping[str, Any]
    needs_certificates: bool = False
    """Whether cert-manager has to be there before it."""


def addons(common: Common) -> list[Addon]:
    """All of them."""
    charts = common.addons
    return [
        Addon(charts.cert_manager, _cert_manager(charts.cert_manager)),
        Addon(charts.cloudnative_pg, {}),
        # The operator and the plugin know each other by certificates.
        Addon(charts.barman_cloud, {}, needs_certificates=True),
        Addon(charts.external_secrets, {}),
        Addon(charts.keda, {}),
        Addon(charts.prometheus, _prometheus(), needs_certificates=True),
    ]


def _cert_manager(chart: Chart) -> dict[str, Any]:
    """It elects its leader in its own namespace; the chart would take kube-system, which it has no business in."""
    return {"crds": {"enabled": True}, "global": {"leaderElection": {"namespace": chart.namespace}}}


def _prometheus() -> dict[str, Any]:
    """Reads every monitor and rule of the cluster. What needs the rights of a node is off, and so is what a cloud's own
    control plane does not show."""
    everything = ("podMonitorSelector", "ruleSelector", "serviceMonitorSelector")
    unseen = ("coreDns", "kubeControllerManager", "kubeEtcd", "kubeProxy", "kubeScheduler")
    return {
        "grafana": {"enabled": False},
        "nodeExporter": {"enabled": False},
        "prometheus": {"prometheusSpec": {f"{selector}NilUsesHelmValues": False for selector in everything}},
        # Certificates from cert-manager spare the chart's own Jobs, which Argo CD would take for a difference.
        "prometheusOperator": {"admissionWebhooks": {"certManager": {"enabled": True}}},
        **{component: {"enabled": False} for component in unseen},
    }
