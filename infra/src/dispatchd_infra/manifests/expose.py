"""The way in for clients outside the cluster. TLS ends in the pods, so the balancers only pass bytes on."""

from pulumi_kubernetes.core.v1 import ServiceArgs, ServicePortArgs, ServiceSpecArgs

from dispatchd_infra.manifests.labels import NAME, metadata
from dispatchd_infra.manifests.roles import CALLED, LISTENERS, Role
from dispatchd_infra.objects import Object, object_of, patch

NODE_PORTS = {Role.CONTROL_PLANE: 30080, Role.WORKER_GATEWAY: 30081}
"""Where dev's one node listens, which has no balancer. infra/kind/cluster.yaml leads to them from the laptop."""


def objects() -> list[Object]:
    """A balancer for each role that clients call."""
    return [_balancer(role) for role in CALLED]


def node_port_patches() -> list[Object]:
    """For a cluster without balancers."""
    return [
        patch(
            "v1",
            "Service",
            _name(role),
            {"type": "NodePort", "ports": [{"port": listener.port, "nodePort": NODE_PORTS[role]}]},
        )
        for role in CALLED
        for listener in LISTENERS[role]
        if listener.for_clients
    ]


def _balancer(role: Role) -> Object:
    """`Local` keeps the client's address, which the network policy looks at. There is no appProtocol, because some
    clouds would probe as it says, and no probe of theirs has a client certificate."""
    return object_of(
        ServiceArgs(
            api_version="v1",
            kind="Service",
            metadata=metadata(role, name=_name(role)),
            spec=ServiceSpecArgs(
                type="LoadBalancer",
                external_traffic_policy="Local",
                selector={NAME: role},
                ports=[
                    ServicePortArgs(name=listener.name, port=listener.port, target_port=listener.name)
                    for listener in LISTENERS[role]
                    if listener.for_clients
                ],
            ),
        )
    )


def _name(role: Role) -> str:
    return f"{role}-external"
