"""What Prometheus reads: the metrics of the roles and of Postgres, and the alerts over them."""

from dispatchd_infra.manifests import alerts, network, postgres_network
from dispatchd_infra.manifests.custom import custom_resource
from dispatchd_infra.manifests.labels import APPLICATION, NAME, PART_OF, POSTGRES, SERVER_PODS
from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common

_API = "monitoring.coreos.com/v1"
_INTERVAL = "15s"


def objects(common: Common) -> list[Object]:
    """Monitors, alerts, and the way in for Prometheus."""
    prometheus = common.addons.prometheus.namespace
    return [
        _roles(),
        _postgres(),
        *alerts.objects(common),
        *network.prometheus(prometheus),
        postgres_network.metrics(prometheus),
    ]


def _roles() -> Object:
    """All roles: each Service with a port `http`. The label `job` of what is read is the role."""
    spec = {
        "jobLabel": NAME,
        "selector": {
            "matchLabels": {PART_OF: APPLICATION},
            "matchExpressions": [{"key": NAME, "operator": "In", "values": list(SERVING)}],
        },
        "endpoints": [{"port": "http", "path": "/metrics", "interval": _INTERVAL}],
    }
    return custom_resource(_API, "ServiceMonitor", APPLICATION, spec, wave=Wave.ROLES)


def _postgres() -> Object:
    """Each instance of Postgres, and the sidecar that archives for it."""
    spec = {
        "selector": {"matchLabels": {**SERVER_PODS[POSTGRES], "cnpg.io/podRole": "instance"}},
        "podMetricsEndpoints": [{"port": "metrics", "interval": _INTERVAL}],
    }
    return custom_resource(_API, "PodMonitor", POSTGRES, spec, wave=Wave.ROLES)
