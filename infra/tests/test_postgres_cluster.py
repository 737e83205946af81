"""The database of a region follows from its state: who is the primary, where it archives, and whom it follows."""

import json
from dataclasses import replace

import pytest

from dispatchd_infra.manifests import configuration, postgres_cluster
from dispatchd_infra.manifests.pods import ARCHIVE_TIMEOUT_S
from dispatchd_infra.objects import Object
from dispatchd_infra.region_state import Bootstrap, DatabaseRole, Regions, RegionState, peer_of
from dispatchd_infra.settings import PRODUCTION, Stack, read_common, read_environment
from pulumi_mocks import INFRA

A, B = PRODUCTION
COMMON = read_common(INFRA)
ENVIRONMENTS = {stack: read_environment(INFRA, stack) for stack in PRODUCTION}

FIRST = Regions.at_first(A)
BOTH = FIRST.with_database(B, role=DatabaseRole.REPLICA, archive=1)


def _objects(regions: Regions, stack: Stack) -> list[Object]:
    return postgres_cluster.region_objects(COMMON, ENVIRONMENTS, regions.of(stack), regions.of(peer_of(stack)))


def _cluster(regions: Regions, stack: Stack) -> Object:
    [cluster] = [value for value in _objects(regions, stack) if value["kind"] == "Cluster"]
    spec: Object = cluster["spec"]
    return spec


def test_a_region_without_a_database_has_no_objects() -> None:
    assert _objects(FIRST, B) == []


def test_the_first_region_begins_empty_and_is_the_primary() -> None:
    spec = _cluster(FIRST, A)

    assert set(spec["bootstrap"]) == {"initdb"}
    assert spec["replica"] == {"self": A, "primary": A, "source": B}


def test_the_passive_region_begins_from_the_archive_of_the_other_and_follows_it() -> None:
    spec = _cluster(BOTH, B)

    assert spec["bootstrap"]["recovery"]["source"] == A
    assert spec["replica"] == {"self": B, "primary": A, "source": A}


def test_both_ways_to_begin_have_the_same_database_owner_and_password() -> None:
    ways = [_cluster(BOTH, A)["bootstrap"]["initdb"], _cluster(BOTH, B)["bootstrap"]["recovery"]]

    for way in ways:
        assert {key: way[key] for key in ("database", "owner", "secret")} == {
            "database": "dispatchd",
            "owner": "dispatchd",
            "secret": {"name": "dispatchd-database"},
        }


def test_the_roles_may_see_which_transactions_a_switch_has_to_wait_for() -> None:
    assert _cluster(FIRST, A)["bootstrap"]["initdb"]["postInitApplicationSQL"] == [
        "grant pg_read_all_stats to dispatchd"
    ]


def test_a_demoted_primary_names_the_other_region_before_that_is_promoted() -> None:
    between = BOTH.with_database(A, role=DatabaseRole.REPLICA)

    assert [_cluster(between, stack)["replica"]["primary"] for stack in PRODUCTION] == [B, A]


@pytest.mark.parametrize("role", [DatabaseRole.REPLICA, DatabaseRole.DIVERGED])
def test_what_is_no_primary_is_told_to_follow(role: DatabaseRole) -> None:
    switched = BOTH.with_database(A, role=role).with_database(B, role=DatabaseRole.PRIMARY, token="token-of-a")

    assert _cluster(switched, A)["replica"] == {"self": A, "primary": B, "source": B}
    assert _cluster(switched, B)["replica"] == {"self": B, "primary": B, "source": A, "promotionToken": "token-of-a"}


def test_each_region_archives_to_its_own_store_and_knows_the_archive_of_the_other() -> None:
    for stack in PRODUCTION:
        spec = _cluster(BOTH, stack)
        [archiver] = spec["plugins"]
        assert archiver["isWALArchiver"]
        assert archiver["parameters"] == {"barmanObjectName": stack, "serverName": f"{stack}-1"}
        assert {each["name"]: each["plugin"]["parameters"] for each in spec["externalClusters"]} == {
            each: {"barmanObjectName": each, "serverName": f"{each}-1"} for each in PRODUCTION
        }
        stores = {value["metadata"]["name"] for value in _objects(BOTH, stack) if value["kind"] == "ObjectStore"}
        assert stores == set(PRODUCTION)


def test_a_rebuilt_database_archives_under_a_new_name_that_the_other_region_learns() -> None:
    rebuilt = replace(
        BOTH,
        databases={
            A: RegionState(A, DatabaseRole.REPLICA, Bootstrap.RECOVERY, archive=2),
            B: RegionState(B, DatabaseRole.PRIMARY, Bootstrap.RECOVERY, archive=1),
        },
    )

    assert _cluster(rebuilt, A)["plugins"][0]["parameters"]["serverName"] == f"{A}-2"
    known = {
        each["name"]: each["plugin"]["parameters"]["serverName"] for each in _cluster(rebuilt, B)["externalClusters"]
    }
    assert known == {A: f"{A}-2", B: f"{B}-1"}


def test_the_regions_differ_in_nothing_but_their_names_and_stores() -> None:
    alike = replace(
        BOTH, databases={stack: replace(BOTH.of(A), stack=stack, role=DatabaseRole.REPLICA) for stack in PRODUCTION}
    )
    a, b = (json.dumps(_cluster(alike, stack), sort_keys=True) for stack in PRODUCTION)
    swapped = a.replace(A, "?").replace(B, A).replace("?", B)

    # Both list the same archives in the same order.
    known = [json.loads(text)["externalClusters"] for text in (swapped, b)]
    assert known[0] == known[1][::-1]
    assert {**json.loads(swapped), "externalClusters": None} == {**json.loads(b), "externalClusters": None}


def test_production_asks_before_it_removes_what_holds_data() -> None:
    for value in _objects(BOTH, A):
        options = value["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
        assert ("Prune=confirm,Delete=confirm" in options) == (value["kind"] in ("Cluster", "ObjectStore"))


def test_the_first_backup_is_taken_at_once_in_both_regions() -> None:
    for stack in PRODUCTION:
        [backup] = [value for value in _objects(BOTH, stack) if value["kind"] == "ScheduledBackup"]
        assert backup["metadata"]["name"] == f"{stack}-1"
        assert backup["spec"]["immediate"]
        assert backup["spec"]["pluginConfiguration"] == {"name": "barman-cloud.cloudnative-pg.io"}


@pytest.mark.parametrize("stack", [Stack.STAGING, *PRODUCTION])
def test_postgres_takes_as_many_connections_as_the_roles_may_open(stack: Stack) -> None:
    environment = read_environment(INFRA, stack)
    [cluster] = [value for value in postgres_cluster.objects(COMMON, environment, stack) if value["kind"] == "Cluster"]

    connections = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert connections > configuration.most_database_connections(environment)


def test_an_archive_is_behind_by_the_time_that_alerts_and_rollouts_reckon_with() -> None:
    for stack in PRODUCTION:
        assert _cluster(BOTH, stack)["postgresql"]["parameters"]["archive_timeout"] == f"{ARCHIVE_TIMEOUT_S}s"


def test_a_commit_waits_for_a_second_node_only_where_one_more_stands_by() -> None:
    [two] = [
        value["spec"]
        for value in postgres_cluster.objects(COMMON, read_environment(INFRA, Stack.STAGING), Stack.STAGING)
        if value["kind"] == "Cluster"
    ]

    assert (two["instances"], two["postgresql"]["synchronous"]["dataDurability"]) == (2, "preferred")
    assert _cluster(BOTH, A)["postgresql"]["synchronous"]["dataDurability"] == "required"
