"""The network lets through exactly the edges that the roles need: which addresses they read, and where they listen.

Both ends are looked at alone: what the source may open, and what the target takes. Probes come from a pod's own node,
which Kubernetes always lets through.
"""

from collections.abc import Iterator
from itertools import permutations

import pytest

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_environment
from network import Edge, Endpoint, Network
from rendered import REPOSITORY, Objects, Rendered, of_kind, one
from workloads import all_workloads

NAMESPACE = "dispatchd"

READERS = {
    "DATABASE_URL": {"control-plane", "scheduler", "worker-gateway", "migrate"},
    "REDIS_ADDRESS": {"control-plane", "scheduler", "worker-gateway"},
}
"""Which pods read the settings that hold an address. OTLP_ENDPOINT is not rendered: tracing is not built."""
SERVERS = {"DATABASE_URL": ("postgres", 5432), "REDIS_ADDRESS": ("redis", 6379)}
GRPC = {"control-plane": 8080, "worker-gateway": 8080}
HTTP = {"control-plane": 9100, "scheduler": 9101, "worker-gateway": 9102}

STANDBY = "postgres standby"
STATUS = 8000
"""Where an instance of CloudNativePG tells the operator and the other instances how it is."""

PORTS = [(port, "TCP") for port in (53, 443, 5432, 6379, 6443, 8000, 8080, 9100, 9101, 9102, 9187)] + [(53, "UDP")]
"""Every port that somebody listens on; each is tried at every target."""


def _pod(name: str, namespace: str, **labels: str) -> Endpoint:
    return Endpoint(name, namespace, labels, {"kubernetes.io/metadata.name": namespace})


def _endpoints(stack: Stack, objects: Objects) -> Iterator[Endpoint]:
    for workload in all_workloads(objects):
        name = workload.owner["metadata"]["name"]
        yield _pod(name, NAMESPACE, **workload.labels)
        if workload.owner["kind"] == "Cluster":
            yield _pod(STANDBY, NAMESPACE, **workload.labels)
    yield _pod("dns", "kube-system", **{"k8s-app": "kube-dns"})
    yield _pod("other system pod", "kube-system", **{"k8s-app": "metrics-server"})
    yield _pod("stranger inside", NAMESPACE, **{"app.kubernetes.io/name": "stranger"})
    yield _pod("stranger outside", "default", **{"app.kubernetes.io/name": "control-plane"})
    yield Endpoint("client", "shop", {}, {"kubernetes.io/metadata.name": "shop", "dispatchd/clients": "true"})
    if stack is not Stack.DEV:
        yield _pod("prometheus", "monitoring", **{"app.kubernetes.io/name": "prometheus"})
        yield _pod("operator", "cnpg-system", **{"app.kubernetes.io/name": "cloudnative-pg"})
        yield Endpoint("internet", address="203.0.113.7")
        yield Endpoint("internet by IPv6", address="2001:db8::7")
    for network in read_environment(REPOSITORY / "infra", stack).client_cidrs:
        yield Endpoint(f"client in {network}", address=str(network.network_address))


def _network(stack: Stack, objects: Objects) -> Network:
    return Network(list(of_kind(objects, "NetworkPolicy")), NAMESPACE, list(_endpoints(stack, objects)))


def _expected(stack: Stack, objects: Objects) -> set[Edge]:
    """What the declared readers and listeners need, and DNS for everybody."""
    edges = {Edge(reader, *SERVERS[setting]) for setting, readers in READERS.items() for reader in readers}
    endpoints = list(_endpoints(stack, objects))
    clients = [each.name for each in endpoints if each.name.startswith("client")]
    edges |= {Edge(client, role, port) for client in clients for role, port in GRPC.items()}
    inside = [each.name for each in endpoints if each.namespace == NAMESPACE]
    edges |= {Edge(name, "dns", 53, protocol) for name in inside for protocol in ("UDP", "TCP")}
    if stack is not Stack.DEV:
        edges |= {Edge("prometheus", role, port) for role, port in HTTP.items()}
        edges |= _of_the_cluster([each.name for each in endpoints if each.address])
    return edges


def _of_the_cluster(addresses: list[str]) -> set[Edge]:
    """What CloudNativePG needs. The API server and the object stores are addresses that nobody knows beforehand."""
    instances = ("postgres", STANDBY)
    edges = {Edge(reader, STANDBY, 5432) for reader in READERS["DATABASE_URL"]}
    edges |= {Edge(one, other, port) for one, other in permutations(instances) for port in (5432, STATUS)}
    edges |= {Edge("operator", each, port) for each in instances for port in (5432, STATUS)}
    edges |= {Edge("prometheus", each, 9187) for each in instances}
    return edges | {Edge(each, address, port) for each in instances for address in addresses for port in (443, 6443)}


def _wrongly_opened(stack: Stack, objects: Objects) -> list[str]:
    """Where what the pods may open is not what they need."""
    network = _network(stack, objects)
    inside = {each.name for each in network.endpoints if each.namespace == NAMESPACE}
    needed = {edge for edge in _expected(stack, objects) if edge.source in inside}
    return _compared(network.allowed("Egress", PORTS), needed)


def _wrongly_taken(stack: Stack, objects: Objects) -> list[str]:
    """Where what the pods take is not what others need."""
    network = _network(stack, objects)
    inside = {each.name for each in network.endpoints if each.namespace == NAMESPACE}
    needed = {edge for edge in _expected(stack, objects) if edge.target in inside}
    return _compared(network.allowed("Ingress", PORTS), needed)


def _compared(allowed: set[Edge], needed: set[Edge]) -> list[str]:
    return [f"missing: {edge}" for edge in sorted(needed - allowed)] + [
        f"not needed: {edge}" for edge in sorted(allowed - needed)
    ]


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_pods_may_open_exactly_the_connections_that_they_need(rendered: Rendered, stack: Stack) -> None:
    assert _wrongly_opened(stack, rendered.overlays[stack]) == []


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_pods_take_exactly_the_connections_that_others_need(rendered: Rendered, stack: Stack) -> None:
    assert _wrongly_taken(stack, rendered.overlays[stack]) == []


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_rule_is_for_somebody_known(rendered: Rendered, stack: Stack) -> None:
    assert list(_network(stack, rendered.overlays[stack]).idle_peers(PORTS)) == []


# That the comparison would notice.


def _policy(objects: Objects, name: str) -> Object:
    spec: Object = one(objects, "NetworkPolicy", name)["spec"]
    return spec


def test_a_way_out_that_is_missing_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    _policy(objects, "migrate")["egress"].clear()

    assert _wrongly_opened(Stack.STAGING, objects) == [
        "missing: migrate → postgres:5432/TCP",
        "missing: migrate → postgres standby:5432/TCP",
    ]
    assert _wrongly_taken(Stack.STAGING, objects) == []


def test_dns_that_is_missing_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    objects.remove(one(objects, "NetworkPolicy", "dns"))

    assert "missing: migrate → dns:53/UDP" in _wrongly_opened(Stack.STAGING, objects)


def test_a_way_in_that_is_missing_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    _policy(objects, "worker-gateway")["ingress"].clear()

    assert _wrongly_taken(Stack.STAGING, objects) == ["missing: client → worker-gateway:8080/TCP"]
    assert _wrongly_opened(Stack.STAGING, objects) == []


def test_a_way_out_that_nobody_needs_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    _policy(objects, "scheduler")["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]})

    assert "not needed: scheduler → internet:443/TCP" in _wrongly_opened(Stack.STAGING, objects)


def test_a_way_in_for_every_namespace_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    _policy(objects, "control-plane")["ingress"][0]["from"] = [{"namespaceSelector": {}}]

    assert "not needed: stranger outside → control-plane:8080/TCP" in _wrongly_taken(Stack.STAGING, objects)


def test_a_namespace_without_a_default_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    objects.remove(one(objects, "NetworkPolicy", "default-deny"))

    assert "not needed: stranger outside → migrate:8080/TCP" in _wrongly_taken(Stack.STAGING, objects)


def test_a_rule_for_nobody_known_is_noticed(rendered: Rendered) -> None:
    objects = rendered.copy().overlays[Stack.STAGING]
    _policy(objects, "scheduler")["egress"][0]["to"].append({"namespaceSelector": {"matchLabels": {"a": "b"}}})

    assert len(list(_network(Stack.STAGING, objects).idle_peers(PORTS))) == 1
