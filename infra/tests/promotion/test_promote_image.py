"""`infra promote-image` writes the images of an environment, and refuses what must not run there."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from dispatchd_infra import images
from dispatchd_infra.manifests.roles import SERVING, Role
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common
from kubectl import kustomize
from promotion.switching import A, B, settled
from repositories import INFRA, Clone, copy_of, make_clone

COMMON = read_common(INFRA)
NEW = {role: f"sha256:{number:x}{'a' * 63}" for number, role in enumerate(SERVING, start=1)}
NAMES = {role: f"{COMMON.registry}/dispatchd-{role}" for role in SERVING}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    copy_of(begin, tmp_path)
    return Clone(tmp_path / "clone")


def begin(folder: Path) -> None:
    made = make_clone(folder)
    for stack in ENVIRONMENTS:
        first = images.folder(COMMON, stack, images.at_first(COMMON, stack))
        for name, text in first.files.items():
            made.write(f"{first.path}/{name}", text)
    made.commit("Begin with no images")
    made.push("main")


def arguments(tag: str = "v1.2.3") -> list[str]:
    return [word for role in SERVING for word in ("--image", f"{role}={tag}@{NEW[role]}")]


def published(**changes: object) -> str:
    entries = [
        {"service": role, "ref": f"{NAMES[role]}:v1.2.3", "digest": NEW[role], "platforms": ["linux/amd64"]}
        for role in SERVING
    ]
    return json.dumps([{**entry, **changes} if entry["service"] == "scheduler" else entry for entry in entries])


def read(clone: Clone, stack: Stack) -> images.Images:
    return images.read(clone.read(images.path_of(stack)), COMMON, stack)


def in_staging(clone: Clone) -> None:
    clone.succeed("promote-image", "--env", "staging", *arguments())
    clone.commit("Release v1.2.3 to staging")
    clone.push("main")


def test_one_role_is_named_and_the_others_stay(clone: Clone) -> None:
    output = clone.succeed("promote-image", "--env", "staging", "--image", f"scheduler=v1.2.3@{NEW[Role.SCHEDULER]}")
    assert "staging: scheduler: nothing released → v1.2.3@2aaaaaaaaaaa" in output
    assert read(clone, Stack.STAGING) == {
        **images.at_first(COMMON, Stack.STAGING),
        Role.SCHEDULER: images.RoleImage(NAMES[Role.SCHEDULER], "v1.2.3", NEW[Role.SCHEDULER]),
    }
    assert clone.git("status", "--porcelain") == f"M {images.path_of(Stack.STAGING)}"


def test_a_release_names_every_role(clone: Clone) -> None:
    clone.write("images.json", published())
    clone.succeed("promote-image", "--env", "staging", "--images", str(clone.root / "images.json"))
    assert {role: image.digest for role, image in read(clone, Stack.STAGING).items()} == NEW


def test_kustomize_puts_tag_and_digest_into_the_objects_of_the_environment(clone: Clone) -> None:
    in_staging(clone)
    role = Role.WORKER_GATEWAY
    container = {"name": "main", "image": NAMES[role]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    clone.write("gitops/x/deployment.yaml", yaml.safe_dump(deployment))
    place = Path(images.path_of(Stack.STAGING)).parent.relative_to("gitops")
    clone.write("gitops/x/kustomization.yaml", f"resources: [deployment.yaml]\ncomponents: [../{place}]\n")
    [built] = kustomize(clone.root / "gitops" / "x")
    [found] = built["spec"]["template"]["spec"]["containers"]
    assert found["image"] == f"{NAMES[role]}:v1.2.3@{NEW[role]}"


def test_dev_takes_a_tag_alone(clone: Clone) -> None:
    clone.succeed("promote-image", "--env", "dev", "--tag", "sha-1234567")
    assert {image.tag for image in read(clone, Stack.DEV).values()} == {"sha-1234567"}
    assert {image.digest for image in read(clone, Stack.DEV).values()} == {None}


def test_production_means_both_regions_and_a_region_means_one(clone: Clone) -> None:
    in_staging(clone)
    output = clone.succeed("promote-image", "--from", "staging", "--to", "prod-region-b")
    assert read(clone, Stack.PROD_REGION_B) == read(clone, Stack.STAGING)
    assert read(clone, Stack.PROD_REGION_A) == images.at_first(COMMON, Stack.PROD_REGION_A)
    assert "merges main into production" in output
    clone.succeed("promote-image", "--from", "staging", "--to", "production")
    assert read(clone, Stack.PROD_REGION_A) == read(clone, Stack.PROD_REGION_B) == read(clone, Stack.STAGING)


def test_the_same_promotion_again_changes_nothing(clone: Clone) -> None:
    in_staging(clone)
    before = clone.files()
    assert "nothing to change" in clone.succeed("promote-image", "--env", "staging", *arguments())
    assert clone.files() == before


@pytest.mark.parametrize("env", ["staging", "prod-region-a", "production"])
def test_a_tag_without_a_digest_is_refused_outside_dev(clone: Clone, env: str) -> None:
    assert "has no digest" in clone.refuse("promote-image", "--env", env, "--image", "scheduler=v1.2.3")
    assert "--tag is for dev only" in clone.refuse("promote-image", "--env", env, "--tag", "v1.2.3")


def test_what_dev_has_without_digests_is_refused_in_staging(clone: Clone) -> None:
    assert "local has no digest" in clone.refuse("promote-image", "--from", "dev", "--to", "staging")


@pytest.mark.parametrize("name", ["migrate", "api", ""])
def test_an_unknown_role_is_refused(clone: Clone, name: str) -> None:
    said = clone.refuse("promote-image", "--env", "staging", "--image", f"{name}=v1@sha256:{'a' * 64}")
    assert f"{name!r} is no role" in said
    assert "control-plane, scheduler, worker-gateway" in said


def test_an_unknown_environment_is_answered_with_the_choices(clone: Clone) -> None:
    done = clone.run("promote-image", "--env", "moon", *arguments())
    assert done.exit_code == 2
    choices = "'dev', 'staging', 'prod-region-a', 'prod-region-b', 'production'"
    assert f"Invalid value for '--env': 'moon' is not one of {choices}." in done.stderr


@pytest.mark.parametrize("env", ["dev", "staging", "production"])
def test_the_digest_of_zeros_is_refused_even_by_force(clone: Clone, env: str) -> None:
    image = f"scheduler=v1.2.3@{images.NOTHING_RELEASED}"
    assert "nothing was released" in clone.refuse("promote-image", "--env", env, "--image", image, "--force")


def test_nothing_released_is_not_promoted(clone: Clone) -> None:
    assert "nothing was released" in clone.refuse("promote-image", "--from", "staging", "--to", "production")


def test_a_digest_that_never_stood_in_staging_is_refused_in_production_unless_forced(clone: Clone) -> None:
    said = clone.refuse("promote-image", "--env", "production", *arguments())
    assert "never stood in gitops/overlays/staging/images/kustomization.yaml on origin/main" in said
    clone.succeed("promote-image", "--env", "production", *arguments(), "--force")
    assert {role: image.digest for role, image in read(clone, Stack.PROD_REGION_B).items()} == NEW


@pytest.mark.parametrize("tag", ["", "a b", "-x", "v1@sha256:1"])
def test_what_is_no_tag_is_refused_as_it_was_given(clone: Clone, tag: str) -> None:
    assert f"--tag {tag!r}: this is no tag" in clone.refuse("promote-image", "--env", "dev", "--tag", tag)


def test_a_digest_of_another_role_in_staging_is_refused(clone: Clone) -> None:
    in_staging(clone)
    image = f"scheduler=v1.2.3@{NEW[Role.CONTROL_PLANE]}"
    assert "never stood" in clone.refuse("promote-image", "--env", "production", "--image", image)


def test_what_stands_in_staging_on_a_branch_that_was_not_merged_is_refused(clone: Clone) -> None:
    clone.git("switch", "--quiet", "--create", "release")
    clone.succeed("promote-image", "--env", "staging", *arguments())
    clone.commit("Release to staging")
    clone.push("release")
    assert "never stood" in clone.refuse("promote-image", "--from", "staging", "--to", "production")


def test_what_stood_in_staging_earlier_may_go_to_production(clone: Clone) -> None:
    in_staging(clone)
    later = [word.replace("aaaa", "bbbb") for word in arguments("v1.3.0")]
    clone.succeed("promote-image", "--env", "staging", *later)
    clone.commit("Release v1.3.0 to staging")
    clone.push("main")
    clone.succeed("promote-image", "--env", "production", *arguments())
    assert {role: image.digest for role, image in read(clone, Stack.PROD_REGION_A).items()} == NEW


def test_what_a_side_branch_held_before_its_merge_never_stood_in_staging(clone: Clone) -> None:
    clone.git("switch", "--quiet", "--create", "release")
    clone.succeed("promote-image", "--env", "staging", *arguments())
    clone.commit("Release to staging")
    clone.git("revert", "--no-edit", "HEAD")
    clone.git("switch", "--quiet", "main")
    clone.git("merge", "--quiet", "--no-ff", "--no-edit", "release")
    clone.push("main")
    assert "never stood" in clone.refuse("promote-image", "--env", "production", *arguments())


def test_a_shallow_clone_is_refused_with_the_remedy(clone: Clone, tmp_path: Path) -> None:
    in_staging(clone)
    clone.git("clone", "--quiet", "--depth", "1", f"file://{tmp_path / 'server'}", str(tmp_path / "shallow"))
    shallow = Clone(tmp_path / "shallow")
    said = shallow.refuse("promote-image", "--from", "staging", "--to", "production")
    assert "git fetch --unshallow" in said
    shallow.git("fetch", "--quiet", "--unshallow")
    shallow.succeed("promote-image", "--from", "staging", "--to", "production")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "images.json"),
        ("[]", "there is no image for control-plane, scheduler, worker-gateway"),
        (published(service="migrate"), "'migrate' is no role"),
        (published(service="control-plane"), "control-plane is there twice"),
        (published(digest="sha256:1"), "images.json: 1.digest"),
        (published(ref=f"{NAMES[Role.SCHEDULER]}:v1@{images.NOTHING_RELEASED}"), "ref and digest name two digests"),
        (published(ref="NO IMAGE"), "is no image"),
        (published(ref="ghcr.io/somebody/dispatchd-scheduler:v1.2.3"), "the registry in infra/common.yaml"),
        (published(ref=f"{NAMES[Role.CONTROL_PLANE]}:v1.2.3"), "scheduler: ref names"),
        ("\udcff", "images.json: Invalid JSON"),
    ],
)
def test_a_bad_images_json_is_refused_with_the_reason(clone: Clone, text: str, reason: str) -> None:
    (clone.root / "images.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    said = clone.refuse("promote-image", "--env", "staging", "--images", str(clone.root / "images.json"))
    assert reason in said


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--env", "staging"),
        ("--from", "staging"),
        ("--env", "dev", "--tag", "x", "--image", "scheduler=x"),
        ("--env", "dev", "--from", "dev", "--to", "staging"),
        ("--from", "dev", "--to", "staging", "--tag", "x"),
    ],
)
def test_options_that_do_not_go_together_are_refused(clone: Clone, options: tuple[str, ...]) -> None:
    assert "Usage:" in clone.refuse("promote-image", *options)


def test_a_file_of_somebody_elses_is_not_overwritten(clone: Clone) -> None:
    clone.write(images.path_of(Stack.STAGING), clone.read(images.path_of(Stack.STAGING)).partition("\n")[2])
    assert "was not generated" in clone.refuse("promote-image", "--env", "staging", *arguments())


def test_a_file_of_images_that_is_no_text_is_refused_by_its_name(clone: Clone) -> None:
    path = images.path_of(Stack.STAGING)
    (clone.root / path).write_bytes(b"\xff")
    assert f"{path}: this is no text in UTF-8" in clone.refuse("promote-image", "--env", "staging", *arguments())


def test_no_region_is_written_if_one_can_not_be(clone: Clone) -> None:
    in_staging(clone)
    clone.write("gitops/overlays/prod-region-b/images/notes.txt", "somebody's notes")
    assert "was not generated" in clone.refuse("promote-image", "--from", "staging", "--to", "production")


def test_the_committed_files_of_this_repository_can_be_read() -> None:
    for stack in ENVIRONMENTS:
        text = (INFRA.parent / images.path_of(stack)).read_text("utf-8")
        found = images.read(text, COMMON, images.path_of(stack))
        assert images.folder(COMMON, stack, found).files == {"kustomization.yaml": text}


def test_whoever_promotes_the_passive_region_alone_is_told_about_the_schema(tmp_path: Path) -> None:
    production = settled(tmp_path)
    note = "prod-region-b is the passive region. If this release needs a new schema, it can't become ready there"
    assert note in production.clone.succeed("promote-image", "--env", B, *arguments(), "--force")
    for env in (A, "production"):
        assert "Note:" not in production.clone.succeed("promote-image", "--env", env, *arguments(), "--force")


def test_nothing_is_left_behind(clone: Clone) -> None:
    in_staging(clone)
    shutil.rmtree(clone.root / "gitops" / "overlays" / "prod-region-a")
    clone.succeed("promote-image", "--from", "staging", "--to", "prod-region-a")
    assert read(clone, Stack.PROD_REGION_A) == read(clone, Stack.STAGING)
