"""Names, labels and ports that lead nowhere."""

from breaches.registry import breaks, container, everywhere, pod
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import PRODUCTION
from policies import addresses, existing, ports, selectors
from rendered import Rendered, of_kind, one


@breaks(selectors.selectors_match)
def service_selector_misspelt(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Service",
        "scheduler",
        lambda service: service["spec"]["selector"].update({"app.kubernetes.io/name": "schedular"}),
    )


@breaks(selectors.selectors_match)
def spread_over_the_pods_of_another_role(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: pod(each)["topologySpreadConstraints"][0].update(labelSelector={"matchLabels": {"a": "b"}}),
    )


@breaks(existing.references_exist)
def service_account_misspelt(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "scheduler", lambda each: pod(each).update(serviceAccountName="schedular"))


@breaks(existing.references_exist)
def config_map_without_the_hash(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: container(each)["envFrom"][0]["configMapRef"].update(name="dispatchd-settings"),
    )


@breaks(existing.references_exist)
def key_that_the_secret_has_not(rendered: Rendered) -> None:
    def misspell(deployment: Object) -> None:
        for variable in container(deployment)["env"]:
            if variable["name"] == "DATABASE_URL":
                variable["valueFrom"]["secretKeyRef"]["key"] = "URL"

    everywhere(rendered, "Deployment", "scheduler", misspell)


@breaks(existing.references_exist)
def secret_that_nobody_makes(rendered: Rendered) -> None:
    def rename(certificate: Object) -> None:
        certificate["spec"]["secretName"] = "worker-gateway-certificate"

    everywhere(rendered, "Certificate", "worker-gateway-tls", rename)


@breaks(existing.references_exist)
def issuer_that_is_not_there(rendered: Rendered) -> None:
    everywhere(
        rendered, "Certificate", "worker-gateway-tls", lambda each: each["spec"]["issuerRef"].update(name="nobody")
    )


@breaks(ports.ports_match)
def target_port_misspelt(rendered: Rendered) -> None:
    everywhere(rendered, "Service", "control-plane", lambda each: each["spec"]["ports"][0].update(targetPort="grcp"))


@breaks(ports.ports_match)
def probe_of_a_port_that_is_not_there(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Deployment",
        "scheduler",
        lambda each: container(each)["livenessProbe"]["httpGet"].update(port="metrics"),
    )


@breaks(ports.ports_match)
def monitor_of_a_port_that_is_not_there(rendered: Rendered) -> None:
    for objects in rendered.overlays.values():
        for monitor in of_kind(objects, "ServiceMonitor"):
            monitor["spec"]["endpoints"][0]["port"] = "prometheus"


@breaks(existing.mounts_have_volumes)
def mount_of_a_volume_that_is_not_there(rendered: Rendered) -> None:
    def misspell(deployment: Object) -> None:
        for mount in container(deployment)["volumeMounts"]:
            if mount["name"] == "tmp":
                mount["name"] = "temp"

    everywhere(rendered, "Deployment", "scheduler", misspell)


@breaks(existing.mounted_secrets_can_be_read)
def keys_for_another_group(rendered: Rendered) -> None:
    everywhere(rendered, "Deployment", "control-plane", lambda each: pod(each)["securityContext"].pop("fsGroup"))


@breaks(addresses.addresses_lead_to_services)
def redis_in_a_namespace_that_is_not_there(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "ConfigMap",
        "dispatchd-settings",
        lambda each: each["data"].update(REDIS_ADDRESS=each["data"]["REDIS_ADDRESS"].replace(".dispatchd.", ".redis.")),
    )


@breaks(addresses.addresses_lead_to_services)
def database_at_another_port(rendered: Rendered) -> None:
    def move(secret: Object) -> None:
        written = secret["spec"]["target"]["template"]["data"]
        written["DATABASE_URL"] = written["DATABASE_URL"].replace(":5432/", ":5433/")

    everywhere(rendered, "ExternalSecret", "dispatchd-database", move)


@breaks(addresses.certificates_name_what_clients_call)
def certificate_for_one_region_alone(rendered: Rendered) -> None:
    for stack in PRODUCTION:
        names = one(rendered.overlays[stack], "Certificate", "worker-gateway-tls")["spec"]["dnsNames"]
        names.remove("worker-gateway.dispatchd.example")


@breaks(addresses.clients_outside_keep_their_address)
def balancer_that_hides_its_clients(rendered: Rendered) -> None:
    everywhere(rendered, "Service", "control-plane-external", lambda each: each["spec"].pop("externalTrafficPolicy"))
