"""What a cluster has before Argo CD: its namespaces admit what is rendered, and people get no more than they need."""

from collections.abc import Iterator

import pytest
import yaml
from click.testing import CliRunner

from dispatchd_infra.cli import main
from dispatchd_infra.manifests import cluster
from dispatchd_infra.manifests.labels import DATASTORE_PRIORITY, ROLE_PRIORITY
from dispatchd_infra.manifests.quantities import mebibytes
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common, read_environment
from pulumi_mocks import INFRA

COMMON = read_common(INFRA)


def _objects(stack: Stack) -> list[Object]:
    return cluster.objects(COMMON, read_environment(INFRA, stack))


def _of_kind(stack: Stack, kind: str) -> list[Object]:
    return [value for value in _objects(stack) if value["kind"] == kind]


def _rules(stack: Stack, group: str, namespace: str) -> Iterator[tuple[str, str, str]]:
    """API group, resource and verb of everything that a group of people may do in a namespace."""
    for role in _of_kind(stack, "Role"):
        if (role["metadata"]["name"], role["metadata"]["namespace"]) == (group, namespace):
            for rule in role["rules"]:
                yield from ((rule["apiGroups"][0], name, verb) for name in rule["resources"] for verb in rule["verbs"])


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_namespace_is_restricted_and_bounded(stack: Stack) -> None:
    namespaces = {value["metadata"]["name"]: value["metadata"]["labels"] for value in _of_kind(stack, "Namespace")}
    bounded = {value["metadata"]["namespace"] for value in _of_kind(stack, "ResourceQuota")}

    assert bounded == set(namespaces)
    assert {labels["pod-security.kubernetes.io/enforce"] for labels in namespaces.values()} == {"restricted"}


def test_dev_has_no_namespace_for_operators_that_it_does_not_run() -> None:
    names = {value["metadata"]["name"] for value in _of_kind(Stack.DEV, "Namespace")}

    assert names == {COMMON.namespaces.dispatchd, COMMON.namespaces.argocd}


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_quota_has_room_for_every_role_at_its_largest_in_a_rolling_update(stack: Stack) -> None:
    environment = read_environment(INFRA, stack)
    [hard] = [
        value["spec"]["hard"]
        for value in _of_kind(stack, "ResourceQuota")
        if value["metadata"]["namespace"] == COMMON.namespaces.dispatchd
    ]
    roles = environment.roles
    most = [
        (roles.control_plane.max_replicas + 1, roles.control_plane),
        (roles.worker_gateway.max_replicas + 1, roles.worker_gateway),
        (roles.scheduler.replicas + 1, roles.scheduler),
        (environment.database.instances, environment.database),
        (1, environment.redis),
    ]

    assert int(hard["pods"]) > sum(count for count, _ in most)
    assert mebibytes(hard["requests.memory"]) > sum(count * mebibytes(size.memory) for count, size in most)
    assert hard["limits.memory"] == hard["requests.memory"]
    assert int(hard["persistentvolumeclaims"]) > environment.database.instances


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_datastores_are_placed_before_the_roles(stack: Stack) -> None:
    values = {value["metadata"]["name"]: value["value"] for value in _of_kind(stack, "PriorityClass")}

    assert values[DATASTORE_PRIORITY] > values[ROLE_PRIORITY] > 0


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_nobody_is_given_secrets_or_everything(stack: Stack) -> None:
    for role in _of_kind(stack, "Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "secrets" not in rule["resources"]
    assert {"ClusterRole", "ClusterRoleBinding"}.isdisjoint(value["kind"] for value in _objects(stack))


@pytest.mark.parametrize("stack", ENVIRONMENTS)
@pytest.mark.parametrize("namespace", [COMMON.namespaces.dispatchd, COMMON.namespaces.argocd])
def test_ci_only_looks(stack: Stack, namespace: str) -> None:
    assert {verb for _, _, verb in _rules(stack, "dispatchd-ci", namespace)} == {"get", "list", "watch"}


@pytest.mark.parametrize("stack", [stack for stack in ENVIRONMENTS if stack is not Stack.DEV])
def test_operators_can_do_what_a_region_switch_asks_of_them(stack: Stack) -> None:
    here = set(_rules(stack, "dispatchd-operators", COMMON.namespaces.dispatchd))
    there = set(_rules(stack, "dispatchd-operators", COMMON.namespaces.argocd))

    assert {
        ("", "pods/exec", "create"),
        ("apps", "deployments/scale", "patch"),
        ("networking.k8s.io", "networkpolicies", "create"),
        ("postgresql.cnpg.io", "clusters", "get"),
        ("postgresql.cnpg.io", "clusters", "delete"),
        ("", "persistentvolumeclaims", "delete"),
    } <= here
    assert {("apps", "statefulsets/scale", "patch"), ("argoproj.io", "applications", "patch")} <= there


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_group_that_has_rights_is_bound_to_them(stack: Stack) -> None:
    roles = {(value["metadata"]["namespace"], value["metadata"]["name"]) for value in _of_kind(stack, "Role")}
    bound = {
        (value["metadata"]["namespace"], value["roleRef"]["name"])
        for value in _of_kind(stack, "RoleBinding")
        if value["subjects"][0]["name"] == value["roleRef"]["name"]
    }

    assert bound == roles


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_command_prints_the_same_objects_namespaces_first(stack: Stack) -> None:
    done = CliRunner().invoke(main, ["render-cluster", "--env", str(stack)], catch_exceptions=False)

    printed = list(yaml.safe_load_all(done.stdout))
    assert printed == _objects(stack)
    kinds = [value["kind"] for value in printed]
    assert "Namespace" not in kinds[kinds.count("Namespace") :]


def test_the_command_prints_argo_cds_own_kinds_only_when_asked() -> None:
    done = CliRunner().invoke(main, ["render-cluster", "--env", "dev", "--with-argocd"], catch_exceptions=False)

    printed = list(yaml.safe_load_all(done.stdout))
    assert [value["kind"] for value in printed[len(_objects(Stack.DEV)) :]] == ["AppProject", "Application"]


def test_a_cluster_of_no_environment_is_refused() -> None:
    done = CliRunner().invoke(main, ["render-cluster", "--env", "base"])

    assert done.exit_code == 2
    assert "'base' is not one of 'dev', 'staging'" in done.stderr
