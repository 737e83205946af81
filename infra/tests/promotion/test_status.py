"""`infra status` shows what git says of every environment, and what is not promoted yet."""

from pathlib import Path

import pytest

from dispatchd_infra import images
from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.promotion import overview
from dispatchd_infra.settings import ENVIRONMENTS, Stack
from promotion.switching import A, B, Production, settled

DIGEST = f"sha256:{'a' * 64}"
RELEASE = [word for role in SERVING for word in ("--image", f"{role}=v1.2.3@{DIGEST}")]


@pytest.fixture
def production(tmp_path: Path) -> Production:
    return settled(tmp_path)


def on_main(production: Production, *arguments: str) -> None:
    """Promotes images on main, and merges that there."""
    production.clone.git("switch", "--quiet", "--force-create", "release", "origin/main")
    production.clone.succeed("promote-image", *arguments)
    production.clone.commit("Release")
    production.clone.push("main")


def merge_into_production(production: Production) -> None:
    production.clone.git("switch", "--quiet", "--detach", "origin/production")
    production.clone.git("merge", "--quiet", "--no-ff", "--no-edit", "origin/main")
    production.clone.push("production")


def rows(production: Production) -> dict[Stack, overview.Row]:
    return {row.stack: row for row in overview.look(production.clone.root / "infra").rows}


def test_before_a_release_nothing_is_released_and_nothing_waits(production: Production) -> None:
    found = rows(production)
    assert list(found) == list(ENVIRONMENTS)
    assert {str(image) for image in found[Stack.STAGING].images.values()} == {"nothing released"}
    assert all(row.waiting == () for row in found.values())
    assert {stack: row.seen_in for stack, row in found.items()} == {
        Stack.DEV: "origin/main",
        Stack.STAGING: "origin/main",
        A: "origin/production",
        B: "origin/production",
    }


def test_a_release_is_followed_from_dev_to_production(production: Production) -> None:
    on_main(production, "--env", "dev", "--tag", "v1.2.3")
    assert rows(production)[Stack.DEV].waiting == tuple(f"{role}: not in staging" for role in SERVING)

    on_main(production, "--env", "staging", *RELEASE)
    found = rows(production)
    assert found[Stack.DEV].waiting == ()
    assert found[Stack.STAGING].waiting == tuple(f"{role}: not in production" for role in SERVING)

    on_main(production, "--from", "staging", "--to", "production")
    found = rows(production)
    assert found[Stack.STAGING].waiting == tuple(f"{role}: not in production" for role in SERVING)
    assert found[A].waiting == tuple(f"{role}: v1.2.3@aaaaaaaaaaaa waits for a merge" for role in SERVING)
    assert not found[A].images[SERVING[0]].is_released

    merge_into_production(production)
    found = rows(production)
    assert all(row.waiting == () for row in found.values())
    assert found[B].images[SERVING[0]].digest == DIGEST


def test_a_difference_between_the_regions_is_shown(production: Production) -> None:
    on_main(production, "--env", "staging", *RELEASE)
    on_main(production, "--from", "staging", "--to", "prod-region-b")
    merge_into_production(production)
    found = rows(production)
    assert found[Stack.STAGING].waiting == tuple(f"{role}: not in prod-region-a" for role in SERVING)
    assert found[A].waiting == tuple(f"{role}: other than prod-region-b" for role in SERVING)
    assert found[B].waiting == tuple(f"{role}: other than prod-region-a" for role in SERVING)


def test_primary_and_epoch_are_those_of_the_branch_production(production: Production) -> None:
    production.demote()
    production.promote()
    production.switch()
    production.clone.git("switch", "--quiet", "main")
    found = rows(production)
    assert (found[A].region, found[A].epoch) == ("passive, database replica", 2)
    assert (found[B].region, found[B].epoch) == ("primary, database primary", 2)


def test_the_table_has_every_environment_and_an_open_switch_is_mentioned(production: Production) -> None:
    output = production.clone.succeed("status")
    for stack in ENVIRONMENTS:
        assert stack in output
    assert images.LOCAL_TAG in output
    assert "nothing released" in output
    assert "switch" not in output
    production.demote()
    assert "A switch of regions is demoted" in production.clone.succeed("status")


def test_without_branches_the_files_on_disk_are_shown(production: Production) -> None:
    for reference in ("refs/remotes/origin/main", "refs/remotes/origin/production", "refs/heads/main"):
        production.clone.git("update-ref", "-d", reference)
    assert {row.seen_in for row in rows(production).values()} == {overview.ON_DISK}
