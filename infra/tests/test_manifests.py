"""The numbers and names in the manifests fit the program that they run."""

import re
from pathlib import Path

import pytest

from dispatchd_infra.folders.overlay import overlay
from dispatchd_infra.manifests import configuration, control_plane, migrate, network, pods, scheduler, security
from dispatchd_infra.manifests.configuration import ADDRESSES
from dispatchd_infra.manifests.labels import NAME, SERVER_PODS
from dispatchd_infra.manifests.roles import CALLED, LISTENERS, SERVING, Role
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Environment, Stack, read_common, read_environment

INFRA = Path(__file__).parents[1]
ENTRYPOINTS = INFRA.parent / "app" / "dispatchd" / "entrypoints"
COMMON = read_common(INFRA)


def _source(name: str) -> str:
    return (ENTRYPOINTS / f"{name}.py").read_text()


def _number(name: str, constant: str) -> float:
    [found] = re.findall(rf"^{constant} = ([0-9.]+)$", _source(name), re.MULTILINE)
    return float(found)


def _environment(stack: Stack) -> Environment:
    return read_environment(INFRA, stack)


def _container(objects: list[Object]) -> tuple[Object, Object]:
    [deployment] = [value for value in objects if value["kind"] == "Deployment"]
    pod: Object = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    return pod, container


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_setting_has_a_name_that_dispatchd_reads(stack: Stack) -> None:
    read = _source("settings") + _source("security_settings")
    # This one is put together from parts there.
    read += '"AUTH_JWT_PUBLIC_KEY_PEM_FILE"'
    names = {
        *configuration.base_settings(),
        *configuration.environment_settings(COMMON, _environment(stack)),
        *configuration.region_settings("x", 1),
        *configuration.auth_settings(),
        *configuration.tls_settings(),
        *(setting.variable for setting in ADDRESSES),
        *(listener.variable for role in SERVING for listener in LISTENERS[role]),
    }

    assert sorted(name for name in names if f'"{name}"' not in read) == []


def test_no_environment_decides_by_itself_whether_it_may_change_jobs() -> None:
    for stack in ENVIRONMENTS:
        assert "ALLOW_MUTATIONS" not in configuration.environment_settings(COMMON, _environment(stack))
    assert "ALLOW_MUTATIONS" not in configuration.base_settings()


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_outside_development_tokens_have_an_issuer_and_redis_is_encrypted(stack: Stack) -> None:
    settings = configuration.environment_settings(COMMON, _environment(stack))

    outside = stack is not Stack.DEV
    assert {"AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE"} <= settings.keys() or not outside
    assert settings["REDIS_ADDRESS"].startswith("rediss://") is outside


def test_the_connections_of_a_full_rolling_update_are_counted() -> None:
    environment = _environment(Stack.STAGING)

    # Four, two and four pods, and one more of each.
    assert configuration.most_database_connections(environment) == 13 * configuration.DATABASE_CONNECTIONS


def test_a_pod_has_longer_to_stop_than_dispatchd_takes() -> None:
    own_limit_s = configuration.SHUTDOWN_TIMEOUT_S + _number("lifecycle", "STOP_MARGIN_S")
    pod, container = _container(scheduler.objects(COMMON))

    assert pod["terminationGracePeriodSeconds"] > container["lifecycle"]["preStop"]["sleep"]["seconds"] + own_limit_s


def test_a_pod_that_waits_for_its_database_is_not_killed_before_it_gives_up() -> None:
    _, container = _container(control_plane.objects(COMMON))
    probe = container["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > _number("lifecycle", "START_PATIENCE_S")


def test_probes_ask_paths_that_dispatchd_serves() -> None:
    served = set(re.findall(r'web\.get\("([^"]+)"', _source("http_probes")))
    _, container = _container(control_plane.objects(COMMON))

    paths = {kind: container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(paths.values()) <= served
    assert paths["livenessProbe"] != paths["readinessProbe"]


@pytest.mark.parametrize("role", CALLED)
def test_clients_in_the_cluster_find_every_pod_and_choose_among_them(role: Role) -> None:
    """One address for all pods would keep a client's only connection, and so all its calls, on one of them."""
    assert pods.service(role)["spec"]["clusterIP"] == "None"


def test_a_rollout_may_wait_for_three_archive_timeouts() -> None:
    assert pods.PROGRESS_DEADLINE_S > 3 * 300


def test_migrate_runs_before_the_region_is_applied_and_before_the_roles() -> None:
    [job] = [value for value in migrate.objects(COMMON) if value["kind"] == "Job"]
    pod = job["spec"]["template"]["spec"]

    assert [container["args"] for container in pod["initContainers"]] == [["migrate"]]
    assert [container["args"] for container in pod["containers"]] == [["region", "apply"]]
    assert pod["containers"][0]["image"].endswith("/dispatchd-control-plane")
    assert job["metadata"]["annotations"] == {
        "argocd.argoproj.io/hook": "Sync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
        "argocd.argoproj.io/sync-wave": "-1",
    }


def test_migrate_is_given_no_secret_but_the_database() -> None:
    [job] = [value for value in migrate.objects(COMMON) if value["kind"] == "Job"]
    [files] = [value for value in security.tls_patches() if value["kind"] == "Job"]

    pod = job["spec"]["template"]["spec"]
    for container in (*pod["containers"], *pod["initContainers"]):
        assert {variable["name"] for variable in container["env"]} == {"DATABASE_URL"}
    volumes = files["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes] == ["postgres-ca"]


def test_no_pod_is_given_the_key_of_a_server_that_it_only_calls() -> None:
    for value in security.tls_patches():
        for volume in value["spec"].get("template", {}).get("spec", {}).get("volumes", []):
            keys = {item["key"] for item in volume["secret"]["items"]}
            assert keys == {"ca.crt"} or volume["secret"]["secretName"] == f"{value['metadata']['name']}-tls"


def test_each_role_may_go_only_where_its_settings_lead() -> None:
    policies = {value["metadata"]["name"]: value["spec"] for value in network.objects()}

    for role in Role:
        allowed = {
            (*rule["to"][0]["podSelector"]["matchLabels"].items(), rule["ports"][0]["port"])
            for rule in policies[role]["egress"]
        }
        assert allowed == {
            (*SERVER_PODS[setting.server].items(), setting.port) for setting in ADDRESSES if role in setting.roles
        }
    assert "ingress" not in policies[Role.MIGRATE]
    assert "ingress" not in policies[Role.SCHEDULER]


def test_a_server_is_reached_by_those_who_read_its_address() -> None:
    policies = {value["metadata"]["name"]: value["spec"] for value in network.objects()}

    for setting in ADDRESSES:
        [rule] = policies[setting.server]["ingress"]
        [peer] = rule["from"]
        assert peer["podSelector"]["matchExpressions"][0]["values"] == sorted(setting.roles)
        assert rule["ports"] == [{"port": setting.port, "protocol": "TCP"}]


def test_nothing_is_allowed_where_nothing_is_said() -> None:
    [deny] = [value["spec"] for value in network.objects() if value["metadata"]["name"] == "default-deny"]

    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_clients_outside_reach_only_the_ports_for_clients() -> None:
    environment = _environment(Stack.PROD_REGION_A)
    spec = network.clients_outside(environment.client_cidrs)["spec"]

    [rule] = spec["ingress"]
    assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert [peer["ipBlock"]["cidr"] for peer in rule["from"]] == ["10.0.0.0/8"]
    assert spec["podSelector"]["matchExpressions"][0]["values"] == ["control-plane", "worker-gateway"]


@pytest.mark.parametrize("stack", [Stack.DEV, Stack.STAGING])
def test_without_networks_of_clients_there_is_no_way_in_from_outside(stack: Stack) -> None:
    environment = _environment(stack).model_copy(update={"client_cidrs": ()})

    folder = overlay(COMMON, environment, stack)

    assert not [name for name in folder.files if "clients-outside" in name or "external" in name]
    assert "components/expose" not in folder.files["kustomization.yaml"]
    with pytest.raises(ValueError, match="no network"):
        network.clients_outside(())


def test_prometheus_reaches_only_the_ports_with_metrics() -> None:
    ports = {
        value["spec"]["podSelector"]["matchLabels"][NAME]: [
            port["port"] for rule in value["spec"]["ingress"] for port in rule["ports"]
        ]
        for value in network.prometheus("monitoring")
    }

    assert ports == {"control-plane": [9100], "scheduler": [9101], "worker-gateway": [9102]}
