"""An example for users: as many workers as it takes, by how long ready jobs wait.

It stands in no environment, because workers run in namespaces of their users. They include the component in their own
kustomization, beside a Deployment `worker`.
"""

from dispatchd_infra.manifests.custom import SKIP_DRY_RUN, SYNC_OPTIONS
from dispatchd_infra.objects import Object, custom_object
from dispatchd_infra.settings import Common

TARGET = "worker"
_WAIT_S = 10
"""How long the oldest ready job may wait. Twice that asks for twice as many workers."""
_FEWEST, _MOST = 1, 50
_CALM_S = 300


def objects(common: Common) -> list[Object]:
    """The ScaledObject. Where nothing is measured, as in the passive region, there are the fewest workers."""
    prometheus = common.addons.prometheus
    trigger = {
        "type": "prometheus",
        "metricType": "Value",
        "metadata": {
            "serverAddress": f"http://{prometheus.chart}-prometheus.{prometheus.namespace}.svc:9090",
            "query": f'max(dispatchd_oldest_ready_age_seconds{{namespace="{common.namespaces.dispatchd}"}})',
            "threshold": str(_WAIT_S),
            "ignoreNullValues": "true",
        },
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": TARGET},
        "minReplicaCount": _FEWEST,
        "maxReplicaCount": _MOST,
        "pollingInterval": 15,
        "advanced": {
            "horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": _CALM_S}}}
        },
        "triggers": [trigger],
    }
    annotations = {SYNC_OPTIONS: SKIP_DRY_RUN}
    return [custom_object("keda.sh/v1alpha1", "ScaledObject", TARGET, spec, annotations=annotations)]
