"""Addresses lead to Services that exist, and whoever is reached over TLS has a certificate for that name."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from dispatchd_infra.settings import Stack, read_environment
from references import provisions
from rendered import REPOSITORY, Objects, each_overlay, name_of, of_kind, one

_PORTS = {"postgres-rw": 5432}
"""Of Services that CloudNativePG makes."""


@each_overlay
def addresses_lead_to_services(stack: Stack, objects: Objects) -> Iterator[str]:
    """REDIS_ADDRESS and DATABASE_URL name a Service of the namespace by the name that Postgres' certificate has too."""
    services = {name: provided for (kind, name), provided in provisions(objects).items() if kind == "Service"}
    for setting, address in _addresses(objects):
        parts = urlsplit(address if "://" in address else f"//{address}")
        name, _, rest = (parts.hostname or "").partition(".")
        if name not in services or rest != "dispatchd.svc":
            yield f"{setting} leads to {parts.hostname}, which is no Service here"
            continue
        made = services[name].maker
        ports = (
            [port["port"] for port in made["spec"].get("ports", ())] if made["kind"] == "Service" else [_PORTS[name]]
        )
        if parts.port not in ports:
            yield f"{setting} leads to port {parts.port} of {name}, which has {ports}"


def _addresses(objects: Objects) -> Iterator[tuple[str, str]]:
    yield "REDIS_ADDRESS", one(objects, "ConfigMap", "dispatchd-settings")["data"]["REDIS_ADDRESS"]
    for secret in of_kind(objects, "ExternalSecret"):
        written = secret["spec"]["target"]["template"]["data"]
        if "DATABASE_URL" in written:
            # What stands between braces is a password.
            before, _, after = written["DATABASE_URL"].partition("{{")
            yield "DATABASE_URL", before + after.rpartition("}}")[2]


@each_overlay
def certificates_name_what_clients_call(stack: Stack, objects: Objects) -> Iterator[str]:
    """In the cluster a Service's names; from outside the region's own domain, and the one that a switch moves."""
    environment = read_environment(REPOSITORY / "infra", stack)
    for certificate in of_kind(objects, "Certificate"):
        server = certificate["metadata"]["labels"]["app.kubernetes.io/name"]
        service = one(objects, "Service", server)["metadata"]["name"]
        needed = {service, f"{service}.dispatchd.svc", f"{service}.dispatchd.svc.cluster.local"}
        if any(each["metadata"]["name"] == f"{server}-external" for each in of_kind(objects, "Service")):
            needed |= {f"{server}.{environment.domain}", f"{server}.{environment.client_domain}"}
        for name in sorted(needed - set(certificate["spec"]["dnsNames"])):
            yield f"{name_of(certificate)} does not name {name}"


@each_overlay
def clients_outside_keep_their_address(stack: Stack, objects: Objects) -> Iterator[str]:
    """A node that passes a connection on to another one puts its own address in, which no `ipBlock` of clients has."""
    for service in of_kind(objects, "Service"):
        spec = service["spec"]
        if spec.get("type") in ("LoadBalancer", "NodePort") and spec.get("externalTrafficPolicy") != "Local":
            yield f"{name_of(service)}: without externalTrafficPolicy Local the network policy sees nodes, not clients"
