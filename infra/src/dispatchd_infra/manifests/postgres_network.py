"""The ways that a CloudNativePG cluster needs beside those of the roles."""

from pulumi_kubernetes.meta.v1 import LabelSelectorArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
)

from dispatchd_infra.manifests.configuration import DATABASE_PORT
from dispatchd_infra.manifests.labels import POSTGRES, server_selector
from dispatchd_infra.manifests.network import NAMESPACE_NAME, policy, tcp
from dispatchd_infra.objects import Object

_STATUS_PORT = 8000
METRICS_PORT = 9187
_API_SERVER_PORTS = (443, 6443)
_OBJECT_STORE_PORT = 443


def objects(operators: str) -> list[Object]:
    """Instances reach each other, the API server and the object stores; the operator, in its namespace, reaches them.

    Neither the API server nor an object store can be named by a label, so their ports are open to all addresses.
    """
    instances = NetworkPolicyPeerArgs(pod_selector=server_selector(POSTGRES))
    operator = NetworkPolicyPeerArgs(namespace_selector=LabelSelectorArgs(match_labels={NAMESPACE_NAME: operators}))
    anywhere = [NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=cidr)) for cidr in ("0.0.0.0/0", "::/0")]
    among_instances = [DATABASE_PORT, _STATUS_PORT]
    return [
        policy(
            POSTGRES,
            "postgres-cluster",
            server_selector(POSTGRES),
            ingress=[
                NetworkPolicyIngressRuleArgs(from_=[instances], ports=tcp(among_instances)),
                NetworkPolicyIngressRuleArgs(from_=[operator], ports=tcp([DATABASE_PORT, _STATUS_PORT])),
            ],
            egress=[
                NetworkPolicyEgressRuleArgs(to=[instances], ports=tcp(among_instances)),
                NetworkPolicyEgressRuleArgs(to=anywhere, ports=tcp(sorted({*_API_SERVER_PORTS, _OBJECT_STORE_PORT}))),
            ],
        )
    ]


def metrics(prometheus: str) -> Object:
    """Lets the Prometheus of a namespace read the metrics of the instances."""
    reader = NetworkPolicyPeerArgs(namespace_selector=LabelSelectorArgs(match_labels={NAMESPACE_NAME: prometheus}))
    return policy(
        POSTGRES,
        "postgres-metrics",
        server_selector(POSTGRES),
        ingress=[NetworkPolicyIngressRuleArgs(from_=[reader], ports=tcp([METRICS_PORT]))],
    )
