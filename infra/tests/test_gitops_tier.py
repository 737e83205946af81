"""The real Pulumi writes gitops/: `make infra-test`.

"An up" is `pulumi up` with the real engine, a real file backend and our real provider.
"""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dispatchd_infra.render import render
from dispatchd_infra.settings import Stack
from scratch_repository import REPOSITORY, TESTS, OperationFailed, ScratchRepository, new_repository

pytestmark = [pytest.mark.gitops_tier, pytest.mark.timeout(600)]

INFRA = REPOSITORY / "infra"
KUSTOMIZATION = "gitops/overlays/dev/kustomization.yaml"
IMAGES = "gitops/overlays/dev/images/kustomization.yaml"


@pytest.fixture
def repository(tmp_path: Path) -> ScratchRepository:
    return new_repository(tmp_path / "scratch")


@pytest.fixture(scope="module")
def once_up(tmp_path_factory: pytest.TempPathFactory) -> ScratchRepository:
    """What `after_up` gives copies of."""
    repository = new_repository(tmp_path_factory.mktemp("once-up") / "scratch")
    repository.pulumi("up", "dev")
    return repository


@pytest.fixture
def after_up(once_up: ScratchRepository, tmp_path: Path) -> ScratchRepository:
    """With an up of the stack dev."""
    return once_up.copy(tmp_path / "scratch")


def rendered(repository: ScratchRepository, *stacks: Stack) -> list[Path]:
    """The files that stacks own."""
    return [
        repository.root / folder.path / name
        for stack in stacks
        for folder in render(INFRA, stack)
        for name in sorted(folder.files)
    ]


def test_all_stacks_write_from_nothing_what_is_committed_and_then_change_nothing(
    repository: ScratchRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in rendered(repository, *Stack):
        path.unlink()
    assert repository.changes() != ""

    for stack in Stack:
        repository.pulumi("up", stack)

    assert repository.changes() == ""
    for stack in Stack:
        repository.pulumi("preview", stack, "--expect-no-changes")
    begin = time.monotonic()
    for stack in Stack:
        assert set(repository.pulumi_anew("up", stack)) == {"same"}
    took = time.monotonic() - begin
    with capsys.disabled():
        sys.stdout.write(f"\nan up of all five stacks that changes nothing: {took:.1f} s (less than 60 s are meant)\n")


def test_an_edited_and_a_deleted_file_are_seen_and_restored(after_up: ScratchRepository) -> None:
    edited, deleted = rendered(after_up, Stack.DEV)[:2]
    edited.write_text(edited.read_text() + "# by hand\n")
    deleted.unlink()

    with pytest.raises(OperationFailed, match="no changes were expected"):
        after_up.pulumi("preview", "dev", "--expect-no-changes")
    assert after_up.changes() != ""
    after_up.pulumi("up", "dev")

    assert after_up.changes() == ""


@pytest.mark.parametrize("operation", ["preview", "up"])
def test_a_stray_file_is_refused_by_name_and_survives(after_up: ScratchRepository, operation: str) -> None:
    stray = after_up.root / "gitops/overlays/dev/notes.yaml"
    stray.write_text("mine: true\n")
    others = rendered(after_up, Stack.DEV)
    for path in others:
        path.unlink()

    with pytest.raises(OperationFailed, match=r"gitops/overlays/dev/notes\.yaml: this file was not generated"):
        after_up.pulumi(operation, "dev")

    assert stray.read_text() == "mine: true\n"
    assert not [path for path in others if path.exists()]


def test_a_mistake_in_the_settings_is_named_and_nothing_is_written(repository: ScratchRepository) -> None:
    settings = repository.root / "infra/gitops/Pulumi.dev.yaml"
    settings.write_text(settings.read_text().replace("scheduler: {", "scheduler: {replica: 1, "))
    for path in rendered(repository, Stack.DEV):
        path.unlink()
    before = repository.changes()

    with pytest.raises(
        OperationFailed,
        match=r"infra/gitops/Pulumi\.dev\.yaml: dispatchd-gitops:environment: roles\.scheduler\.replica",
    ):
        repository.pulumi("up", "dev")

    assert repository.changes() == before


def test_a_file_written_over_by_somebody_is_not_clobbered(after_up: ScratchRepository) -> None:
    (after_up.root / KUSTOMIZATION).write_text("resources: []\n")

    with pytest.raises(OperationFailed, match=rf"{KUSTOMIZATION}: this file was not generated"):
        after_up.pulumi("up", "dev")

    assert (after_up.root / KUSTOMIZATION).read_text() == "resources: []\n"


def test_promoted_images_are_left_alone(after_up: ScratchRepository) -> None:
    images = after_up.root / IMAGES
    images.write_text(images.read_text() + "# promoted\n")

    after_up.pulumi("preview", "dev", "--expect-no-changes")
    after_up.pulumi("up", "dev")

    assert images.read_text().endswith("# promoted\n")


def test_folders_that_are_there_are_adopted_without_being_touched(repository: ScratchRepository) -> None:
    before = {path: path.stat().st_mtime_ns for path in rendered(repository, Stack.DEV)}

    assert set(repository.pulumi("up", "dev")) == {"create"}

    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_destroying_leaves_only_what_was_not_generated(after_up: ScratchRepository) -> None:
    after_up.pulumi("destroy", "dev")

    left = [path for path in (after_up.root / "gitops/overlays/dev").rglob("*") if path.is_file()]
    assert left == [after_up.root / IMAGES]
    assert not (after_up.root / "gitops/argocd/dev").exists()


def test_an_up_that_was_killed_in_the_middle_is_finished_by_the_next(
    repository: ScratchRepository, tmp_path: Path
) -> None:
    for path in rendered(repository, Stack.DEV):
        path.unlink()
    plugins, reached = tmp_path / "plugins", tmp_path / "reached"
    plugins.mkdir()
    (plugins / "pulumi-resource-gitops").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{TESTS / "stopping_provider.py"}" "{reached}" "$@"\n'
    )
    (plugins / "pulumi-resource-gitops").chmod(0o755)
    repository.use_provider(plugins)

    up = repository.begin("up", "dev")
    while not reached.exists():
        assert up.poll() is None, "the up ended before it reached the middle"
        time.sleep(0.05)
    for process in reached.read_text().split():
        os.kill(int(process), signal.SIGKILL)
    up.communicate()
    assert up.returncode != 0
    assert len(list((repository.root / "gitops").rglob("*.unfinished"))) == 1
    assert repository.changes() != ""

    repository.use_provider(INFRA / "plugins")
    repository.pulumi("cancel", "dev")
    repository.pulumi("up", "dev")

    assert repository.changes() == ""
    repository.pulumi("preview", "dev", "--expect-no-changes")
