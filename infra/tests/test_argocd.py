"""What Argo CD is told: which branch, which project, in which order, and what it may remove."""

import itertools

import pytest
import yaml

from dispatchd_infra import addons, argo
from dispatchd_infra.folders.argocd import argocd, bootstrap
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, PRODUCTION, Stack, read_common, read_environment
from pulumi_mocks import INFRA

COMMON = read_common(INFRA)
OPERATED = [stack for stack in ENVIRONMENTS if stack is not Stack.DEV]


def _read(stack: Stack) -> dict[str, Object]:
    """What the root Application reads, by kind and name; it looks into no folder below its own."""
    folder = argocd(COMMON, read_environment(INFRA, stack), stack)
    objects = [yaml.safe_load(text) for name, text in folder.files.items() if "/" not in name]
    return {f"{value['kind']} {value['metadata']['name']}": value for value in objects}


def _applications(stack: Stack) -> dict[str, Object]:
    return {
        value["metadata"]["name"]: value
        for value in [*_read(stack).values(), *bootstrap(COMMON, stack)]
        if value["kind"] == "Application"
    }


def _wave(value: Object) -> int:
    return int(value["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_root_application_finds_only_what_its_project_lets_it_make(stack: Stack) -> None:
    project, root = bootstrap(COMMON, stack)
    allowed = {each["kind"] for each in project["spec"]["namespaceResourceWhitelist"]}

    assert root["spec"]["source"]["path"] == f"gitops/argocd/{stack}"
    assert {value["kind"] for value in _read(stack).values()} == allowed
    assert {value["metadata"]["namespace"] for value in _read(stack).values()} == {COMMON.namespaces.argocd}
    assert "clusterResourceWhitelist" not in project["spec"]


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_production_follows_its_own_branch_and_the_others_follow_main(stack: Stack) -> None:
    branches = {
        each["spec"]["source"]["targetRevision"]
        for each in _applications(stack).values()
        if "path" in each["spec"]["source"]
    }

    assert branches == {"production" if stack in PRODUCTION else "main"}


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_application_repairs_and_prunes_and_tries_for_half_an_hour(stack: Stack) -> None:
    for application in _applications(stack).values():
        policy = application["spec"]["syncPolicy"]
        assert policy["automated"] == {"enabled": True, "prune": True, "selfHeal": True}
        assert {"ServerSideApply=true", "PruneLast=true", "PrunePropagationPolicy=foreground"} <= {
            *policy["syncOptions"]
        }
        retry = policy["retry"]
        seconds = [int(retry["backoff"][key].removesuffix("s")) for key in ("duration", "maxDuration")]
        pauses = (
            min(seconds[0] * retry["backoff"]["factor"] ** number, seconds[1]) for number in range(retry["limit"])
        )
        assert sum(pauses) >= 30 * 60


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_project_that_argo_cd_makes_by_itself_allows_nothing(stack: Stack) -> None:
    spec = _read(stack)["AppProject default"]["spec"]

    assert (spec["sourceRepos"], spec["destinations"], spec["clusterResourceWhitelist"]) == ([], [], [])
    assert spec["namespaceResourceBlacklist"] == [{"group": "*", "kind": "*"}]
    assert "default" not in {each["spec"]["project"] for each in _applications(stack).values()}


@pytest.mark.parametrize("stack", OPERATED)
def test_what_others_need_is_healthy_before_they_begin(stack: Stack) -> None:
    read = _read(stack)
    order = [
        ["AppProject default", "AppProject dispatchd", "AppProject platform"],
        ["Application cert-manager", "Application cloudnative-pg", "Application external-secrets", "Application keda"],
        ["Application kube-prometheus-stack", "Application plugin-barman-cloud"],
        ["Application stores"],
        ["Application dispatchd"],
    ]

    assert sorted(itertools.chain.from_iterable(order)) == sorted(read)
    waves = [{_wave(read[name]) for name in names} for names in order]
    assert all(len(wave) == 1 for wave in waves)
    assert waves == sorted(waves, key=min)


def test_dev_needs_no_operator() -> None:
    assert sorted(_read(Stack.DEV)) == ["AppProject default", "AppProject dispatchd", "Application dispatchd"]
    assert argocd(COMMON, read_environment(INFRA, Stack.DEV), Stack.DEV).files.keys() == {
        "appproject-default.yaml",
        "appproject-dispatchd.yaml",
        "application-dispatchd.yaml",
    }


@pytest.mark.parametrize("stack", OPERATED)
def test_the_operators_come_from_their_own_charts_in_the_version_that_was_looked_at(stack: Stack) -> None:
    applications = _applications(stack)
    allowed = _read(stack)["AppProject platform"]["spec"]

    for addon in addons.addons(COMMON):
        spec = applications[addon.chart.chart]["spec"]
        assert (spec["source"]["chart"], spec["source"]["targetRevision"]) == (addon.chart.chart, addon.chart.version)
        assert spec["source"]["repoURL"] in allowed["sourceRepos"]
        assert spec["destination"]["namespace"] in {each["namespace"] for each in allowed["destinations"]}
        assert spec["project"] == "platform"


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_number_of_pods_is_ignored_where_an_autoscaler_chooses_it(stack: Stack) -> None:
    spec = _applications(stack)["dispatchd"]["spec"]
    ignored = {each["name"] for each in spec.get("ignoreDifferences", []) if each["jsonPointers"] == ["/spec/replicas"]}

    assert ignored == (set() if stack is Stack.DEV else {"control-plane", "worker-gateway"})
    assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]


@pytest.mark.parametrize("stack", OPERATED)
def test_the_secret_store_gives_secrets_to_no_other_namespace(stack: Stack) -> None:
    folder = argocd(COMMON, read_environment(INFRA, stack), stack)
    store = yaml.safe_load(folder.files["stores/clustersecretstore-dispatchd.yaml"])

    assert store["spec"]["conditions"] == [{"namespaces": [COMMON.namespaces.dispatchd]}]
    assert _applications(stack)["stores"]["spec"]["source"]["path"] == f"{folder.path}/stores"


@pytest.mark.parametrize("stack", OPERATED)
def test_cert_manager_may_ask_for_the_tokens_of_the_account_that_its_issuer_names(stack: Stack) -> None:
    files = argocd(COMMON, read_environment(INFRA, stack), stack).files
    issuer, account, role, binding = (
        yaml.safe_load(files[f"stores/{name}.yaml"])
        for name in (
            "clusterissuer-dispatchd",
            "serviceaccount-dispatchd-issuer",
            "role-dispatchd-issuer",
            "rolebinding-dispatchd-issuer",
        )
    )

    named = issuer["spec"]["vault"]["auth"]["kubernetes"]["serviceAccountRef"]["name"]
    assert (account["metadata"]["name"], account["metadata"]["namespace"]) == (named, "cert-manager")
    [rule] = role["rules"]
    assert (rule["resources"], rule["resourceNames"], rule["verbs"]) == (["serviceaccounts/token"], [named], ["create"])
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "cert-manager", "namespace": "cert-manager"}]


def test_a_project_without_kinds_allows_all_of_a_namespace_and_none_of_the_cluster() -> None:
    spec = argo.project(COMMON, "some", description="", sources=[], namespaces=["one"])["spec"]

    assert "namespaceResourceWhitelist" not in spec
    assert "clusterResourceWhitelist" not in spec
