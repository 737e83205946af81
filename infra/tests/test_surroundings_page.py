"""What docs/surroundings.md says of the way in is what is rendered."""

from dispatchd_infra.folders.overlay import overlay
from dispatchd_infra.manifests import expose
from dispatchd_infra.manifests.labels import CLIENTS
from dispatchd_infra.manifests.roles import CALLED, LISTENERS
from dispatchd_infra.settings import Stack, read_common, read_environment
from pulumi_mocks import INFRA

PAGE = (INFRA.parent / "docs" / "surroundings.md").read_text(encoding="utf-8")
[WAY_IN] = [section for section in PAGE.split("\n## ") if section.startswith("The way in")]


def test_the_balancers_have_the_names_and_the_port_on_the_page() -> None:
    for service in expose.objects():
        assert service["spec"]["type"] == "LoadBalancer"
        assert f"`{service['metadata']['name']}`" in WAY_IN
        assert [port["port"] for port in service["spec"]["ports"]] == [8080]


def test_a_gateway_finds_the_services_and_the_label_on_the_page() -> None:
    for role in CALLED:
        assert f"`{role}`" in WAY_IN
        assert 8080 in [listener.port for listener in LISTENERS[role]]
    [(label, value)] = CLIENTS.items()
    assert f'`{label}: "{value}"`' in WAY_IN


def test_without_networks_of_clients_there_is_no_balancer_and_no_policy_for_them() -> None:
    environment = read_environment(INFRA, Stack.STAGING).model_copy(update={"client_cidrs": ()})

    files = overlay(read_common(INFRA), environment, Stack.STAGING).files

    assert "components/expose" not in files["kustomization.yaml"]
    assert not [name for name in files if "clients-outside" in name]
