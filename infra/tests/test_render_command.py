"""`infra render` writes what is missing, names what differs, and leaves what is somebody's own."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dispatchd_infra.cli import main
from dispatchd_infra.emit import header
from dispatchd_infra.settings import PRODUCTION, Stack, stack_file

COMMITTED = Path(__file__).parents[1]
DEPLOYMENT = "gitops/base/deployment-scheduler.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with settings and without gitops/."""
    (tmp_path / "infra" / "gitops").mkdir(parents=True)
    shutil.copy(COMMITTED / "common.yaml", tmp_path / "infra")
    for stack in Stack:
        shutil.copy(stack_file(COMMITTED, stack), tmp_path / "infra" / "gitops")
    return tmp_path


def _infra(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--infra", str(root / "infra"), *arguments])


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_second_render_finds_nothing_to_do(root: Path) -> None:
    first = _infra(root, "render")
    written = _tree(root)
    second = _infra(root, "render")

    assert (first.exit_code, second.exit_code, second.output) == (0, 0, "")
    assert f"{DEPLOYMENT}: missing" in first.output
    assert _tree(root) == written


def test_check_says_how_many_files_are_right(root: Path) -> None:
    _infra(root, "render")

    done = _infra(root, "render", "--check")

    assert done.exit_code == 0
    assert "files are as rendered" in done.output


def test_check_names_edited_missing_left_over_and_stray_files_and_changes_nothing(root: Path) -> None:
    _infra(root, "render")
    (root / DEPLOYMENT).write_text(header("base") + "kind: Deployment\n")
    (root / "gitops/base/kustomization.yaml").unlink()
    (root / "gitops/components/old").mkdir()
    (root / "gitops/components/old/kustomization.yaml").write_text(header("base"))
    (root / "gitops/overlays/dev/notes.txt").write_text("mine")
    before = _tree(root)

    done = _infra(root, "render", "--check")

    assert done.exit_code == 1
    for line in (
        f"{DEPLOYMENT}: edited",
        "gitops/base/kustomization.yaml: missing",
        "gitops/components/old/kustomization.yaml: left over",
        "gitops/overlays/dev/notes.txt: stray",
    ):
        assert line in done.output
    assert "make render" in done.output
    assert _tree(root) == before


def test_check_names_an_edited_file_of_a_region_and_who_writes_it(root: Path) -> None:
    shutil.copytree(COMMITTED.parent / "gitops", root / "gitops")
    assert _infra(root, "render", "--check").exit_code == 0
    objects = root / "gitops/regions/database/prod-region-a/objectstore-prod-region-a.yaml"
    objects.write_text(objects.read_text().replace("30d", "3d"))
    (root / "gitops/regions/active/notes.yaml").write_text("mine")
    before = _tree(root)

    done = _infra(root, "render", "--check")

    assert done.exit_code == 1
    assert "gitops/regions/database/prod-region-a/objectstore-prod-region-a.yaml: edited" in done.output
    assert "gitops/regions/active/notes.yaml: stray" in done.output
    assert "run `infra promote-region --step refresh`, and look" in done.output
    assert _tree(root) == before


def test_check_says_that_a_change_of_a_database_needs_both_commands(root: Path) -> None:
    shutil.copytree(COMMITTED.parent / "gitops", root / "gitops")
    for stack in PRODUCTION:
        file = stack_file(root / "infra", stack)
        file.write_text(file.read_text().replace("cpu: 500m, memory: 2Gi", "cpu: 600m, memory: 2Gi"))
        file.write_text(file.read_text().replace("storage: 200Gi", "storage: 300Gi"))

    done = _infra(root, "render", "--check")

    assert "run `make render` and `infra promote-region --step refresh`, and look" in done.output


@pytest.mark.parametrize("place", ["gitops/overlays/qa", "gitops/regions/database/prod-region-c", "gitops"])
def test_a_folder_that_belongs_to_nobody_is_refused(root: Path, place: str) -> None:
    (root / place).mkdir(parents=True)
    (root / place / "kustomization.yaml").write_text(header("qa"))

    refused, checked = _infra(root, "render"), _infra(root, "render", "--check")

    assert f"{place}/kustomization.yaml: this lies in no folder" in refused.output
    assert f"{place}/kustomization.yaml: stray" in checked.output
    assert (refused.exit_code, checked.exit_code) == (1, 1)
    assert not (root / DEPLOYMENT).exists()
    assert _infra(root, "render", "--stack", "base").exit_code == 0


def test_a_stray_file_is_refused_before_anything_is_written(root: Path) -> None:
    stray = root / "gitops/overlays/staging/mine.yaml"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    before = _tree(root)

    done = _infra(root, "render")

    assert done.exit_code == 1
    assert "gitops/overlays/staging/mine.yaml: this file was not generated" in done.output
    assert _tree(root) == before


def test_the_images_of_an_environment_are_left_alone(root: Path) -> None:
    images = root / "gitops/overlays/dev/images/kustomization.yaml"
    images.parent.mkdir(parents=True)
    images.write_text("mine")

    assert _infra(root, "render").exit_code == 0
    assert _infra(root, "render", "--check").exit_code == 0
    assert images.read_text() == "mine"


def test_one_stack_writes_only_what_it_owns(root: Path) -> None:
    assert _infra(root, "render", "--stack", "dev").exit_code == 0

    assert (root / "gitops/overlays/dev/kustomization.yaml").exists()
    assert not (root / "gitops/base").exists()


def test_an_unknown_stack_is_named_with_those_there_are(root: Path) -> None:
    done = _infra(root, "render", "--stack", "test")

    assert done.exit_code == 2
    assert "'test'" in done.output
    assert "prod-region-a" in done.output


def test_a_file_that_may_not_be_read_is_named_without_a_traceback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    _infra(root, "render")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = _infra(root, "render")
    assert result.exit_code == 1
    assert "Permission denied" in result.output
    assert str(root / "gitops") in result.output


def test_a_mistake_in_one_environment_writes_nothing_of_any(root: Path) -> None:
    file = stack_file(root / "infra", Stack.PROD_REGION_B)
    file.write_text(file.read_text().replace("replicas: 2", "replicas: 0"))

    done = _infra(root, "render")

    assert done.exit_code == 1
    assert "infra/gitops/Pulumi.prod-region-b.yaml" in done.output
    assert "roles.scheduler.replicas" in done.output
    assert not (root / "gitops").exists()
