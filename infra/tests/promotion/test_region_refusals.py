"""What `infra promote-region` refuses; after a refusal every file and commit is as it was."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from dispatchd_infra import regions
from promotion import switching
from promotion.switching import A, B, Production, alone, settled, token
from repositories import Clone


@pytest.fixture
def production(tmp_path: Path) -> Production:
    return settled(tmp_path)


@pytest.fixture
def promoted(tmp_path: Path) -> Production:
    return switching.promoted(tmp_path)


def demotion(production: Production, of_a: dict[str, object], of_b: dict[str, object]) -> list[str]:
    """The options of a demotion with status files that differ from good ones."""
    return [
        *("--status", production.status(A, age=timedelta(minutes=2), **{"mode": "draining", **of_a})),
        *("--status", production.status(B, **{"mode": "draining", **of_b})),
    ]


@pytest.mark.parametrize(
    ("of_a", "of_b", "said"),
    [
        ({"epoch": 2}, {}, "gate epochs-agree"),
        ({}, {"epoch": 2}, "gate epochs-agree"),
        ({}, {"primary_region": B}, "gate epochs-agree"),
        ({"mode": "active"}, {}, "dispatchd region drain --expect-epoch 1"),
        ({"database": "replica"}, {}, "gate draining"),
        ({"in_flight": 3, "latest_lease_end": "2999-01-01T00:00:00Z"}, {}, "still hold 3 executions"),
        ({}, {"database": "primary"}, "does not follow prod-region-a"),
        ({"wal_position": "0/5000061"}, {}, "still lacks 1 bytes"),
        ({"wal_position": "1/0"}, {"wal_position": "0/FFFFFFFF"}, "still lacks 1 bytes"),
    ],
)
def test_a_demotion_is_refused_while_a_gate_is_shut(
    production: Production, of_a: dict[str, object], of_b: dict[str, object], said: str
) -> None:
    assert said in production.refuse("demote", A, *demotion(production, of_a, of_b))


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [
        ({"in_flight": 3, "latest_lease_end": None}, {}),
        ({"in_flight": 3, "latest_lease_end": "2020-01-01T00:00:00Z"}, {}),
        ({}, {"wal_position": "1/0"}),
        ({}, {"in_flight": 3}),
    ],
)
def test_a_demotion_goes_on_when_every_lease_is_over_and_the_replica_has_everything(
    production: Production, of_a: dict[str, object], of_b: dict[str, object]
) -> None:
    production.step("demote", A, *demotion(production, of_a, of_b))


def test_a_replica_that_was_read_before_the_primary_proves_nothing(production: Production) -> None:
    statuses = [
        *("--status", production.status(A, mode="draining")),
        *("--status", production.status(B, mode="draining", age=timedelta(minutes=2))),
    ]
    assert "was read before prod-region-a" in production.refuse("demote", A, *statuses)


def test_a_status_file_older_than_ten_minutes_is_refused(production: Production) -> None:
    statuses = [
        *("--status", production.status(A, mode="draining", age=timedelta(minutes=11))),
        *("--status", production.status(B, mode="draining")),
    ]
    assert "11 minutes ago, and 10 are the most" in production.refuse("demote", A, *statuses)


def test_a_status_file_from_the_future_is_refused(production: Production) -> None:
    status = production.status(A, mode="draining", age=timedelta(minutes=-5))
    assert "read in the future" in production.refuse("demote", A, "--status", status)


def test_the_status_of_the_wrong_region_is_refused(production: Production) -> None:
    [*_, status] = production.drained()
    assert "the status of prod-region-a is needed" in production.refuse("demote", A, "--status", status)
    twice = ["--status", status, "--status", status]
    assert "two files of prod-region-b" in production.refuse("demote", A, *twice)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"epoch": 0}',
        '{"in_flight": -1}',
        json.dumps({"region": "prod-region-c"}),
        '{"wal_position": "x"}',
        '{"read_at": "2026-01-01"}',
    ],
)
def test_what_is_no_status_is_refused_with_the_command_that_makes_one(production: Production, text: str) -> None:
    file = production.clone.root.parent / "status.json"
    file.write_text(text)
    said = production.refuse("demote", A, "--status", str(file))
    assert "status.json: " in said
    assert ": :" not in said
    assert "dispatchd region status --json" in said


def test_only_what_no_file_answers_can_be_confirmed(production: Production) -> None:
    for gate in ("draining", "caught-up"):
        confirmed = [*production.drained(), "--gates-confirmed", gate]
        assert "the status file answers this" in production.refuse("demote", A, *confirmed)
    assert "no such gate" in production.refuse("demote", A, *production.drained(), "--gates-confirmed", "smoke")


@pytest.mark.parametrize("epoch", [0, 1, 3, -1])
def test_another_epoch_than_the_next_is_refused(promoted: Production, epoch: int) -> None:
    status = promoted.status(B, database="primary")
    said = promoted.refuse("switch", B, "--epoch", str(epoch), "--status", status)
    assert "the committed 1 is followed by 2" in said


def test_the_roles_are_not_switched_before_the_database_is_promoted(promoted: Production) -> None:
    said = promoted.refuse("switch", B, "--epoch", "2", "--status", promoted.status(B))
    assert "still a replica" in said
    assert "is needed" in promoted.refuse("switch", B, "--epoch", "2")
    assert "needs --epoch" in promoted.refuse("switch", B, "--status", promoted.status(B, database="primary"))


def test_the_roles_are_not_switched_to_a_region_whose_database_missed_the_last_switch(promoted: Production) -> None:
    status = promoted.status(B, database="primary", epoch=7)
    assert "dispatchd region set prod-region-b --expect-epoch 7" in promoted.refuse(
        "switch", B, "--epoch", "2", "--status", status
    )


def test_the_roles_are_not_switched_to_the_region_that_was_demoted(promoted: Production) -> None:
    said = promoted.refuse("switch", A, "--epoch", "2", "--status", promoted.status(A))
    assert "the database of prod-region-a is replica" in said


def test_a_switch_is_not_finished_before_the_new_primary_serves(promoted: Production) -> None:
    promoted.switch()
    early = promoted.status(B, database="primary")
    assert "gate serving" in promoted.refuse("finish", B, "--status", early, "--gates-confirmed", "smoke")
    serving = promoted.status(B, database="primary", primary_region=B, epoch=2)
    assert "add --gates-confirmed smoke" in promoted.refuse("finish", B, "--status", serving)


def test_a_promotion_without_a_token_is_refused_unless_unplanned_and_fenced(production: Production) -> None:
    production.demote()
    assert "--token is missing" in production.refuse("promote", B)
    assert "--fenced TEXT is missing" in production.refuse("promote", B, "--unplanned")
    assert "--fenced TEXT is missing" in production.refuse("promote", B, "--unplanned", "--fenced", " ")
    assert "--fenced belongs to --unplanned" in production.refuse("promote", B, "--fenced", "x")
    both = ["--unplanned", "--fenced", "x", "--token", token()]
    assert "leave --unplanned away" in production.refuse("promote", B, *both)


@pytest.mark.parametrize("given", ["", "x", token()[:40], "e30=", "W10="])
def test_what_is_no_token_is_refused(production: Production, given: str) -> None:
    production.demote()
    assert "--token" in production.refuse("promote", B, "--token", given)


def test_a_token_that_was_used_before_is_refused(promoted: Production) -> None:
    promoted.switch()
    promoted.finish()
    now = {"primary_region": B, "epoch": 2, "mode": "draining"}
    statuses = [
        *("--status", promoted.status(B, database="primary", **now)),
        *("--status", promoted.status(A, database="replica", **now)),
    ]
    promoted.step("demote", B, *statuses)
    promoted.merge()
    assert "was used before" in promoted.refuse("promote", A, "--token", token())


def test_the_next_switch_waits_until_the_used_token_is_removed(promoted: Production) -> None:
    promoted.switch()
    assert "a used token blocks the way back" in promoted.refuse("demote", B, *promoted.drained())


def test_steps_out_of_order_are_refused(production: Production) -> None:
    status = ["--status", production.status(B, database="primary")]
    assert "not the next step" in production.refuse("promote", B, "--token", token())
    assert "not the next step" in production.refuse("switch", B, "--epoch", "2", *status)
    assert "prod-region-a is the primary" in production.refuse("rebuild", A, "--gates-confirmed", "backup")
    assert "only the primary can be demoted" in production.refuse("demote", B, *production.drained())


def test_the_primary_is_not_promoted_unplanned(production: Production) -> None:
    assert "only a replica can be promoted" in production.refuse("promote", A, "--unplanned", "--fenced", "x")


def test_what_has_diverged_is_not_promoted(production: Production) -> None:
    production.promote_unplanned()
    production.switch()
    assert "can't be promoted" in production.refuse("promote", A, "--unplanned", "--fenced", "x")


def test_a_copy_is_not_made_before_there_is_a_backup(tmp_path: Path) -> None:
    production = alone(tmp_path)
    assert "add --gates-confirmed backup" in production.refuse("bootstrap-passive", B)
    assert "prod-region-a is primary" in production.refuse("bootstrap-passive", A, "--gates-confirmed", "backup")


def test_a_lost_region_is_not_rebuilt_before_its_volumes_are_deleted(production: Production) -> None:
    production.promote_unplanned()
    production.switch()
    said = production.refuse("rebuild", A, "--gates-confirmed", "backup")
    assert "add --gates-confirmed volumes-deleted" in said


def test_nothing_is_rebuilt_in_the_middle_of_a_switch(production: Production) -> None:
    production.demote()
    assert "not the next step" in production.refuse("rebuild", B, "--gates-confirmed", "backup")


def test_two_primaries_in_the_files_are_refused(production: Production) -> None:
    path = f"{regions.database_place(B)}/kustomization.yaml"
    production.clone.write(path, production.clone.read(path).replace("replica", "primary"))
    production.clone.commit()
    assert "two databases are primaries" in production.refuse("demote", A, *production.drained())


def test_an_edited_file_is_refused_with_the_remedy(production: Production) -> None:
    path = f"{regions.ACTIVE}/kustomization.yaml"
    production.clone.write(path, production.clone.read(path) + "# edited\n")
    assert "is not committed" in production.refuse("demote", A, *production.drained())
    production.clone.commit()
    said = production.refuse("demote", A, *production.drained())
    assert f"{path}: edited" in said
    assert "--step refresh" in said


@pytest.mark.parametrize("is_staged", [False, True])
def test_what_is_not_committed_is_put_aside_by_the_command_that_is_named(
    production: Production, is_staged: bool
) -> None:
    path = f"{regions.ACTIVE}/kustomization.yaml"
    production.clone.write(path, production.clone.read(path) + "# edited\n")
    production.clone.write(f"{regions.PLACE}/nötes of mine.txt", "new")
    if is_staged:
        production.clone.git("add", "--all")
    said = production.refuse("demote", A, *production.drained())
    assert "nötes of mine.txt" in said
    [remedy] = re.findall("`git (stash [^`]*)`", said)
    production.clone.git(*remedy.split())
    production.step("demote", A, *production.drained())


def test_whoever_asks_where_a_switch_stands_is_told_what_is_not_in_production(production: Production) -> None:
    assert "Note:" not in production.clone.succeed("promote-region")
    production.step("demote", A, *production.drained())
    assert "origin/production is in another state" in production.clone.succeed("promote-region")
    production.clone.git("reset", "--quiet", "--soft", "HEAD~1")
    assert "is not committed" in production.clone.succeed("promote-region")


def test_a_hook_that_refuses_the_commit_leaves_everything_as_it_was(production: Production) -> None:
    hook = production.clone.root / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'the hook says no' >&2\nexit 1\n")
    hook.chmod(0o755)
    said = production.refuse("demote", A, *production.drained())
    assert "the hook says no" in said
    assert "wrote" not in said
    assert production.clone.git("status", "--porcelain") == ""


def test_a_file_of_somebody_elses_in_a_folder_of_regions_is_left_alone(production: Production) -> None:
    path = f"{regions.database_place(B)}/notes.txt"
    production.clone.write(path, "somebody's notes")
    production.clone.commit()
    assert f"{path}: stray" in production.refuse("demote", A, *production.drained())
    production.clone.git("push", "--quiet", "origin", "HEAD:refs/heads/production")
    production.clone.git("fetch", "--quiet", "origin")
    said = production.clone.refuse("promote-region", "--step", "refresh", "--commit")
    assert f"{path}: this file was not generated" in said


def test_a_branch_without_the_newest_production_is_refused(production: Production) -> None:
    production.clone.git("switch", "--quiet", "--create", "old", "HEAD~1")
    said = production.refuse("bootstrap-passive", B, "--gates-confirmed", "backup")
    assert "lacks commits of origin/production" in said
    assert "git switch --no-track --create NEW-BRANCH origin/production" in said


def test_a_branch_that_changes_more_than_regions_is_refused(production: Production) -> None:
    production.clone.write("infra/common.yaml", "")
    production.clone.commit()
    production.clone.git("checkout", "--quiet", "HEAD~1", "--", "infra/common.yaml")
    said = production.refuse("demote", A, *production.drained())
    assert "differs from origin/production in infra/common.yaml" in said


def test_a_repository_without_the_branch_production_is_refused(production: Production) -> None:
    production.clone.git("update-ref", "-d", "refs/remotes/origin/production")
    assert "git fetch origin production" in production.refuse("demote", A, *production.drained())


def test_a_shallow_clone_is_refused_with_the_remedy(production: Production, tmp_path: Path) -> None:
    server = f"file://{tmp_path / 'server'}"
    shallow = tmp_path / "shallow"
    production.clone.git("clone", "--quiet", "--depth", "1", "--branch", "production", server, str(shallow))
    other = Production(Clone(shallow))
    other.clone.git("config", "user.name", "Somebody")
    other.clone.git("config", "user.email", "somebody@example.com")
    assert "git fetch --unshallow" in other.refuse("demote", A, *production.drained())


def test_a_production_is_begun_once(production: Production) -> None:
    assert "there already" in production.refuse("begin", B)


def test_files_are_written_anew_only_from_the_state_that_production_has(production: Production) -> None:
    production.clone.git("switch", "--quiet", "main")
    said = production.clone.refuse("promote-region", "--step", "refresh", "--commit")
    assert "merge origin/production into this branch first" in said
    production.clone.git("merge", "--quiet", "origin/production")
    path = f"{regions.ACTIVE}/kustomization.yaml"
    production.clone.write(path, production.clone.read(path) + "# edited\n")
    production.clone.commit()
    production.clone.succeed("promote-region", "--step", "refresh", "--commit")
    assert "edited" not in production.clone.read(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--step", "demote"], "needs --region"),
        (["--step", "demote", "--region", "staging"], "is not one of 'prod-region-a', 'prod-region-b'"),
        (["--step", "demote", "--region", A, "--epoch", "2"], "--epoch is no option of the step demote"),
        (["--step", "finish", "--region", A, "--token", "x"], "--token is no option of the step finish"),
    ],
)
def test_options_that_do_not_fit_the_step_are_refused(production: Production, arguments: list[str], said: str) -> None:
    assert said in production.clone.refuse("promote-region", *arguments)


def test_nothing_is_written_when_git_does_not_know_who_commits(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    production.clone.git("config", "user.useConfigOnly", "true")
    production.clone.git("config", "--unset", "user.email")
    assert "set user.name and user.email" in production.refuse("demote", A, *production.drained())
