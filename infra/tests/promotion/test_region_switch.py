"""A whole switch of regions, step by step, each one merged into production before the next."""

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatchd_infra import folder, regions
from dispatchd_infra.cli import main
from dispatchd_infra.git import Git
from dispatchd_infra.manifests.postgres_cluster import region_objects
from dispatchd_infra.promotion.steps import Phase, phase_of
from dispatchd_infra.region_state import Bootstrap, DatabaseRole
from dispatchd_infra.settings import PRODUCTION, Stack, read_common, read_environment
from kubectl import kustomize
from promotion.switching import BRANCH, A, B, Production, alone, settled, token
from repositories import INFRA, Clone
from schema_checks import schema_findings


@pytest.fixture
def production(tmp_path: Path) -> Production:
    return settled(tmp_path)


def roles(production: Production) -> tuple[DatabaseRole, DatabaseRole]:
    return production.state.of(A).role, production.state.of(B).role


def cluster(production: Production, stack: Stack) -> dict[str, Any]:
    """What is told to CloudNativePG."""
    text = production.clone.read(f"{regions.database_place(stack)}/cluster-postgres.yaml")
    found: dict[str, Any] = yaml.safe_load(text)["spec"]
    return found


def followed(production: Production) -> tuple[str, str]:
    """Which region the cluster of A holds for the primary, and which one that of B."""
    return cluster(production, A)["replica"]["primary"], cluster(production, B)["replica"]["primary"]


def test_a_new_installation_has_one_region_and_then_a_passive_one(tmp_path: Path) -> None:
    production = alone(tmp_path)
    assert phase_of(production.state) is Phase.ALONE
    assert "--step bootstrap-passive --region prod-region-b --gates-confirmed backup" in production.clone.succeed(
        "promote-region"
    )
    assert not (tmp_path / "clone" / regions.database_place(B) / "cluster-postgres.yaml").exists()
    production.step("bootstrap-passive", B, "--gates-confirmed", "backup")
    passive = production.state.of(B)
    assert (passive.role, passive.bootstrap, passive.archive) == (DatabaseRole.REPLICA, Bootstrap.RECOVERY, 1)
    assert production.state.of(A).bootstrap is Bootstrap.INITDB
    assert (production.state.primary, production.state.epoch) == (A, 1)


def test_a_planned_switch_from_the_first_step_to_the_last(production: Production) -> None:
    production.demote()
    assert roles(production) == (DatabaseRole.REPLICA, DatabaseRole.REPLICA)
    assert followed(production) == (B, A)
    assert (production.state.primary, production.state.epoch) == (A, 1)

    production.promote()
    assert followed(production) == (B, B)
    assert cluster(production, B)["replica"]["promotionToken"] == token()
    assert roles(production) == (DatabaseRole.REPLICA, DatabaseRole.PRIMARY)
    assert production.state.of(B).token == token()
    assert (production.state.primary, production.state.epoch) == (A, 1)

    production.switch()
    assert (production.state.primary, production.state.epoch) == (B, 2)

    output = production.finish()
    assert roles(production) == (DatabaseRole.REPLICA, DatabaseRole.PRIMARY)
    assert followed(production) == (B, B)
    assert "promotionToken" not in cluster(production, B)["replica"]
    assert "control-plane.dispatchd.example" in output
    assert "control-plane.prod-region-b.dispatchd.example" in output
    assert "https://github.com/dispatchd/dispatchd/compare/main...production" in output


def test_the_way_back_is_the_same_with_the_regions_exchanged(production: Production) -> None:
    for step in (production.demote, production.promote, production.switch, production.finish):
        step()
    now = {"primary_region": B, "epoch": 2, "mode": "draining"}
    statuses = [
        *("--status", production.status(B, database="primary", **now)),
        *("--status", production.status(A, database="replica", **now)),
    ]
    production.step("demote", B, *statuses)
    production.merge()
    production.step("promote", A, "--token", token("0/A000028"))
    production.merge()
    production.step("switch", A, "--epoch", "3", "--status", production.status(A, **now))
    production.merge()
    production.step("finish", A, "--status", production.status(A, epoch=3), "--gates-confirmed", "smoke")
    assert phase_of(production.state) is Phase.SETTLED
    assert (production.state.primary, production.state.epoch) == (A, 3)


def test_a_planned_switch_can_be_given_up_after_the_demotion(production: Production) -> None:
    production.demote()
    production.step("promote", A, "--token", token())
    production.merge()
    draining = production.status(A, mode="draining")
    said = production.refuse("finish", A, "--status", draining, "--gates-confirmed", "smoke")
    assert "dispatchd region drain --undo --expect-epoch 1" in said
    production.step("finish", A, "--status", production.status(A), "--gates-confirmed", "smoke")
    assert phase_of(production.state) is Phase.SETTLED
    assert (production.state.primary, production.state.epoch) == (A, 1)


def test_an_unplanned_switch_and_the_rebuilding_of_the_lost_region(production: Production) -> None:
    production.promote_unplanned()
    assert roles(production) == (DatabaseRole.DIVERGED, DatabaseRole.PRIMARY)
    assert followed(production) == (B, B)
    assert (production.state.primary, production.state.epoch) == (A, 1)
    assert "is fenced: Roles of A are scaled to zero" in production.clone.git("log", "-1", "--format=%B")

    production.switch()
    assert (production.state.primary, production.state.epoch) == (B, 2)
    assert "There is no token to remove" in production.finish()

    production.rebuild()
    rebuilt = production.state.of(A)
    assert (rebuilt.role, rebuilt.bootstrap) == (DatabaseRole.REPLICA, Bootstrap.RECOVERY)
    assert cluster(production, A)["bootstrap"]["recovery"]["source"] == B
    [archive] = cluster(production, A)["plugins"]
    assert archive["parameters"]["serverName"] == "prod-region-a-2"
    [source] = [each for each in cluster(production, B)["externalClusters"] if each["name"] == A]
    assert source["plugin"]["parameters"]["serverName"] == "prod-region-a-2"
    assert phase_of(production.state) is Phase.SETTLED


def test_a_passive_region_that_is_lost_is_rebuilt_each_time_with_a_new_archive(production: Production) -> None:
    for archive in (2, 3):
        production.step("rebuild", B, "--gates-confirmed", "backup", "--gates-confirmed", "volumes-deleted")
        production.merge()
        assert phase_of(production.state) is Phase.SETTLED
        assert production.state.of(B).archive == archive
        assert cluster(production, B)["bootstrap"]["recovery"]["source"] == A
        assert followed(production) == (A, A)
    assert (production.state.primary, production.state.epoch) == (A, 1)


@pytest.mark.parametrize("steps", [["demote"], ["demote", "promote"]])
def test_a_planned_switch_can_become_an_unplanned_one(production: Production, steps: list[str]) -> None:
    for step in steps:
        getattr(production, step)()
    production.promote_unplanned()
    assert roles(production) == (DatabaseRole.DIVERGED, DatabaseRole.PRIMARY)
    assert production.state.of(B).token is None
    production.switch()
    assert phase_of(production.state) is Phase.DIVERGED


def test_the_old_primary_takes_over_again_if_the_new_one_is_lost_before_the_roles_are_switched(
    production: Production,
) -> None:
    production.demote()
    production.promote()
    unplanned = f"--step promote --region {A} --unplanned"
    assert unplanned in production.clone.succeed("promote-region")
    production.step("promote", A, "--unplanned", "--fenced", "The network of B is cut")
    production.merge()
    assert roles(production) == (DatabaseRole.PRIMARY, DatabaseRole.DIVERGED)
    assert (production.state.primary, production.state.epoch) == (A, 1)
    production.step("rebuild", B, "--gates-confirmed", "backup", "--gates-confirmed", "volumes-deleted")
    assert phase_of(production.state) is Phase.SETTLED


def test_git_does_not_merge_two_steps_that_promote_different_databases(production: Production) -> None:
    production.demote()
    production.step("promote", B, "--token", token())
    production.clone.git("switch", "--quiet", "--create", "give-up", "origin/production")
    production.step("promote", A, "--token", token())
    with pytest.raises(AssertionError, match="merge"):
        production.clone.git("merge", BRANCH)
    assert production.clone.git("diff", "--name-only", "--diff-filter=U").split() == [
        f"{regions.ACTIVE}/kustomization.yaml"
    ]


@pytest.mark.parametrize(
    "walk", [("demote", "promote", "switch", "finish"), ("promote_unplanned", "switch", "rebuild")]
)
def test_somebody_with_a_new_clone_can_go_on_after_every_step(
    tmp_path: Path, production: Production, walk: tuple[str, ...]
) -> None:
    for number, step in enumerate(walk):
        fresh = Clone(tmp_path / f"clone-{number}")
        production.clone.git("clone", "--quiet", str(tmp_path / "server"), str(fresh.root))
        fresh.git("switch", "--quiet", "--create", BRANCH, "origin/production")
        fresh.git("config", "user.name", "Somebody")
        fresh.git("config", "user.email", "somebody@example.com")
        other = Production(fresh)
        assert other.state == production.state
        getattr(other, step)()
        production.clone.git("fetch", "--quiet", "origin")
        production.clone.git("switch", "--quiet", "--force-create", BRANCH, "origin/production")
    assert phase_of(production.state) is Phase.SETTLED


def test_a_step_that_is_done_changes_nothing_and_names_the_next(production: Production) -> None:
    repeated: dict[str, tuple[str, Stack, *tuple[str, ...]]] = {
        "demote": ("demote", A, *production.drained()),
        "promote": ("promote", B, "--token", token()),
        "switch": ("switch", B, "--epoch", "2", "--status", production.status(B)),
    }
    followed_by = {"demote": "--step promote", "promote": "--step switch", "switch": "--step finish"}
    for name, arguments in repeated.items():
        getattr(production, name)()
        before = production.clone.files(), production.clone.git("rev-parse", "HEAD")
        name_of_step, stack, *options = arguments
        output = production.step(name_of_step, stack, *options)
        assert "This step is done already" in output
        assert followed_by[name] in output
        assert (production.clone.files(), production.clone.git("rev-parse", "HEAD")) == before


@pytest.mark.parametrize(
    "walk", [("demote", "promote", "switch", "finish"), ("promote_unplanned", "switch", "rebuild")]
)
def test_the_commands_that_are_named_as_the_next_ones_are_taken(
    production: Production, walk: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for stack in (A, B):
        Path(f"{stack}.json").touch()
    for step in ("", *walk):
        if step:
            getattr(production, step)()
        lines = production.clone.succeed("promote-region").splitlines()
        commands = [shlex.split(line) for line in lines if line.startswith("  infra ")]
        assert commands
        for _, name, *arguments in commands:
            main.commands[name].make_context(name, arguments)


def test_every_step_is_one_commit_that_touches_only_regions_and_pushes_nothing(production: Production) -> None:
    before = production.clone.git("rev-parse", "HEAD"), production.clone.git("ls-remote", "origin")
    production.clone.write("somebody/elses.txt", "unfinished")
    production.clone.git("add", "--all")
    production.step("demote", A, *production.drained())
    assert production.clone.git("rev-parse", "HEAD~1") == before[0]
    assert production.clone.git("ls-remote", "origin") == before[1]
    assert production.clone.git("show", "--name-only", "--format=", "HEAD").splitlines() == [
        "gitops/regions/active/kustomization.yaml",
        "gitops/regions/database/prod-region-a/cluster-postgres.yaml",
        "gitops/regions/database/prod-region-a/kustomization.yaml",
    ]
    assert production.clone.git("status", "--porcelain") == "A  somebody/elses.txt"


def test_without_commit_the_files_are_written_and_the_next_step_waits_for_the_commit(production: Production) -> None:
    production.clone.succeed("promote-region", "--step", "demote", "--region", A, *production.drained())
    assert production.state.of(A).role is DatabaseRole.REPLICA
    assert "is not committed" in production.refuse("promote", B, "--token", token())
    production.clone.commit("Demote")
    production.step("promote", B, "--token", token())


def test_one_commit_moves_primary_and_epoch_of_both_regions(production: Production) -> None:
    production.demote()
    production.promote()
    production.switch()
    changed = production.clone.git("show", "--name-only", "--format=", "HEAD").splitlines()
    assert changed == [f"{regions.ACTIVE}/kustomization.yaml"]


def test_what_production_holds_beyond_the_steps_of_a_switch_is_found(production: Production) -> None:
    production.demote()
    assert "differs" not in production.clone.succeed("check-production")
    production.clone.write("gitops/base/deployment-scheduler.yaml", "kind: Deployment\n")
    production.clone.commit()
    production.clone.push("production")
    said = production.clone.refuse("check-production")
    assert "gitops/base/deployment-scheduler.yaml" in said
    assert Git(production.clone.root).exists("origin/production")


@pytest.mark.parametrize(
    "steps",
    [(), ("demote",), ("demote", "promote"), ("promote_unplanned",), ("promote_unplanned", "switch", "rebuild")],
)
def test_kubernetes_would_take_the_database_of_every_region_in_every_state(
    production: Production, steps: tuple[str, ...]
) -> None:
    for step in steps:
        getattr(production, step)()
    for stack in (A, B):
        components = f"[../regions/active, ../regions/database/{stack}]"
        production.clone.write(f"gitops/{stack}/kustomization.yaml", f"components: {components}\n")
        objects = kustomize(production.clone.root / "gitops" / stack)
        assert [finding for each in objects for finding in schema_findings(each)] == []
        kinds = [each["kind"] for each in objects]
        assert sorted(kinds) == ["Cluster", "ConfigMap", "ObjectStore", "ObjectStore", "ScheduledBackup"]


def test_the_files_of_this_repository_are_as_their_state_and_the_settings_give() -> None:
    common = read_common(INFRA)
    environments = {stack: read_environment(INFRA, stack) for stack in PRODUCTION}
    state = regions.read(regions.files_in(INFRA.parent))
    for each in regions.folders(state, partial(region_objects, common, environments)):
        remedy = "run `infra promote-region --step refresh` and look at the difference"
        assert folder.differences(INFRA.parent, each) == [], remedy
