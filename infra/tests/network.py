"""Which connections NetworkPolicies let through, by the rules of Kubernetes: an edge needs the consent of both ends.

A pod that no policy selects for a direction may do everything in it; otherwise a rule of one of its policies must take
the other end and the port.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from dispatchd_infra.objects import Object
from workloads import selects

Direction = Literal["Ingress", "Egress"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod, or an address outside the cluster (then without a namespace)."""

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    namespace_labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    address: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True, slots=True)
class Edge:
    """A connection that may be opened."""

    source: str
    target: str
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source} → {self.target}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Network:
    """NetworkPolicies of one namespace, and everybody who may speak or be spoken to."""

    policies: Sequence[Object]
    namespace: str
    endpoints: Sequence[Endpoint]

    def allowed(self, direction: Direction, ports: Sequence[tuple[int, str]]) -> set[Edge]:
        """The edges to these ports that the ends in the namespace let out, or in."""
        found = set()
        for source in self.endpoints:
            for target in self.endpoints:
                own, other = (source, target) if direction == "Egress" else (target, source)
                if source is target or own.namespace != self.namespace:
                    continue
                for port, protocol in ports:
                    if self._lets(direction, own, other, port, protocol):
                        found.add(Edge(source.name, target.name, port, protocol))
        return found

    def idle_peers(self, ports: Sequence[tuple[int, str]]) -> Iterator[str]:
        """Peers of rules that take none of the endpoints, and ports that are none of `ports`."""
        for policy in self.policies:
            for direction in ("Ingress", "Egress"):
                for rule in policy["spec"].get(direction.lower(), ()):
                    for peer in rule.get("from" if direction == "Ingress" else "to", ()):
                        if not any(self._is(peer, each) for each in self.endpoints):
                            yield f"{policy['metadata']['name']}: {direction}: nobody known is {peer}"
                    for port in rule.get("ports", ()):
                        if (port["port"], port["protocol"]) not in ports:
                            yield f"{policy['metadata']['name']}: {direction}: nobody known listens on {port}"

    def _lets(self, direction: Direction, own: Endpoint, other: Endpoint, port: int, protocol: str) -> bool:
        selecting = [
            policy
            for policy in self.policies
            if direction in policy["spec"]["policyTypes"] and selects(policy["spec"].get("podSelector"), own.labels)
        ]
        peers = "from" if direction == "Ingress" else "to"
        return not selecting or any(
            (not rule.get(peers) or any(self._is(peer, other) for peer in rule[peers]))
            and (not rule.get("ports") or any(_is_port(each, port, protocol) for each in rule["ports"]))
            for policy in selecting
            for rule in policy["spec"].get(direction.lower(), ())
        )

    def _is(self, peer: Mapping[str, Any], endpoint: Endpoint) -> bool:
        if "ipBlock" in peer:
            if endpoint.address is None:
                return False
            address, block = ip_address(endpoint.address), peer["ipBlock"]
            return address in ip_network(block["cidr"]) and not any(
                address in ip_network(hole) for hole in block.get("except", ())
            )
        if endpoint.namespace is None:
            return False
        if "namespaceSelector" in peer:
            if not selects(peer["namespaceSelector"], endpoint.namespace_labels):
                return False
        elif endpoint.namespace != self.namespace:
            return False
        return selects(peer.get("podSelector"), endpoint.labels)


def _is_port(rule: Mapping[str, Any], port: int, protocol: str) -> bool:
    """Ports are numbers in our policies."""
    if rule.get("protocol", "TCP") != protocol:
        return False
    named = rule.get("port")
    return named is None or bool(named <= port <= rule.get("endPort", named))
