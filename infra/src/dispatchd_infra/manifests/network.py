"""Who may speak to whom: nobody, and then each edge that a declared setting or listener needs.

A setting with an address (`configuration.ADDRESSES`) is an edge from every role that reads it to its server, and is
allowed at both ends. A listener (`roles.LISTENERS`) that is for clients may be reached from the namespaces of clients,
and from the addresses outside the cluster that an environment names. Probes come from the pod's own node, which
Kubernetes always lets through.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, LabelSelectorRequirementArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicyArgs,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)

from dispatchd_infra.manifests.configuration import ADDRESSES, AddressSetting
from dispatchd_infra.manifests.labels import APPLICATION, CLIENTS, NAME, metadata, selector, server_selector
from dispatchd_infra.manifests.roles import CALLED, LISTENERS, SERVING, Role
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object, object_of

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The label with its name that Kubernetes gives every namespace."""

_CLIENTS_OUTSIDE = "clients-outside"


def objects() -> list[Object]:
    """The policies of the base."""
    return [_nothing(), _dns(), *(_of_role(role) for role in Role), *(_of_server(setting) for setting in ADDRESSES)]


def clients_outside(networks: Sequence[IPv4Network | IPv6Network]) -> Object:
    """Lets clients in from outside the cluster, through the Services of the component `expose`.

    Raises ValueError without networks: to Kubernetes a rule without a source is one for all sources.
    """
    if not networks:
        raise ValueError("there is no network to let in")
    [ports] = {tuple(_client_ports(role)) for role in CALLED}
    return policy(
        APPLICATION,
        _CLIENTS_OUTSIDE,
        _any_of(CALLED),
        ingress=[
            NetworkPolicyIngressRuleArgs(
                from_=[NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=str(network))) for network in networks],
                ports=tcp(ports),
            )
        ],
    )


def prometheus(namespace: str) -> list[Object]:
    """Lets the Prometheus of a namespace read the metrics of all roles."""
    return [
        policy(
            role,
            f"{role}-metrics",
            selector(role),
            ingress=[
                NetworkPolicyIngressRuleArgs(
                    from_=[_namespace({NAMESPACE_NAME: namespace})],
                    ports=tcp([listener.port for listener in LISTENERS[role] if not listener.for_clients]),
                )
            ],
        )
        for role in SERVING
    ]


def policy(
    part: str,
    name: str,
    pods: LabelSelectorArgs,
    *,
    ingress: list[NetworkPolicyIngressRuleArgs] | None = None,
    egress: list[NetworkPolicyEgressRuleArgs] | None = None,
) -> Object:
    """A policy for the pods that a selector finds: it forbids what no rule of it, or of another policy, allows.

    None leaves a direction as other policies have it; an empty list forbids everything.
    """
    types = [direction for direction, rules in (("Ingress", ingress), ("Egress", egress)) if rules is not None]
    return object_of(
        NetworkPolicyArgs(
            api_version="networking.k8s.io/v1",
            kind="NetworkPolicy",
            metadata=metadata(part, name=name, wave=Wave.SETTINGS),
            spec=NetworkPolicySpecArgs(
                pod_selector=pods, policy_types=types, ingress=ingress or None, egress=egress or None
            ),
        )
    )


def _nothing() -> Object:
    return policy(APPLICATION, "default-deny", LabelSelectorArgs(), ingress=[], egress=[])


def _dns() -> Object:
    """Every pod has to find addresses."""
    servers = NetworkPolicyPeerArgs(
        namespace_selector=LabelSelectorArgs(match_labels={NAMESPACE_NAME: "kube-system"}),
        pod_selector=LabelSelectorArgs(match_labels={"k8s-app": "kube-dns"}),
    )
    ports = [NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
    rule = NetworkPolicyEgressRuleArgs(to=[servers], ports=ports)
    return policy(APPLICATION, "dns", LabelSelectorArgs(), egress=[rule])


def _of_role(role: Role) -> Object:
    """A role's ways: from the namespaces of clients, and to the servers whose addresses it reads."""
    ports = _client_ports(role)
    ingress = [NetworkPolicyIngressRuleArgs(from_=[_namespace(CLIENTS)], ports=tcp(ports))] if ports else None
    egress = [
        NetworkPolicyEgressRuleArgs(
            to=[NetworkPolicyPeerArgs(pod_selector=server_selector(setting.server))], ports=tcp([setting.port])
        )
        for setting in ADDRESSES
        if role in setting.roles
    ]
    return policy(role, role, selector(role), ingress=ingress, egress=egress)


def _of_server(setting: AddressSetting) -> Object:
    """The other end of those ways."""
    rule = NetworkPolicyIngressRuleArgs(
        from_=[NetworkPolicyPeerArgs(pod_selector=_any_of(sorted(setting.roles)))], ports=tcp([setting.port])
    )
    return policy(setting.server, setting.server, server_selector(setting.server), ingress=[rule])


def _client_ports(role: Role) -> list[int]:
    return [listener.port for listener in LISTENERS[role] if listener.for_clients]


def _any_of(parts: Sequence[str]) -> LabelSelectorArgs:
    return LabelSelectorArgs(
        match_expressions=[LabelSelectorRequirementArgs(key=NAME, operator="In", values=list(parts))]
    )


def _namespace(match: dict[str, str]) -> NetworkPolicyPeerArgs:
    return NetworkPolicyPeerArgs(namespace_selector=LabelSelectorArgs(match_labels=match))


def tcp(ports: Sequence[int]) -> list[NetworkPolicyPortArgs]:
    """Ports, as a rule names them."""
    return [NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]
