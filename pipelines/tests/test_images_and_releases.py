"""Images, scans and releases: what reaches a registry, when, and what stops it."""

import json
import re
from typing import Any

import pytest

import tree
from dispatchd_pipelines import pins
from dispatchd_pipelines.releasing.notes import notes
from releases import CREATED, OLD, REFUSED, SERVICES, SHA, TOKEN, WANTED, FakeTags, Released, repository
from session.engine import CallFailed, Engine
from session.execution import COMMIT, Execution, Outcome
from session.recipe import Recipe


def platforms(recipe: Recipe) -> list[Any]:
    return [step.arguments.get("platform") for step in recipe.chain() if step.field == "dockerBuild"]


def build_arguments(recipe: Recipe) -> dict[str, str]:
    [build] = [step for step in recipe.chain() if step.field == "dockerBuild"]
    return {argument["name"]: argument["value"] for argument in build.arguments["buildArgs"]}


def test_an_image_is_what_the_dockerfile_makes_of_the_source(engine: Engine) -> None:
    for service in SERVICES:
        image = engine.call("image", {"service": service})
        assert build_arguments(image) == {"BASE": pins.PYTHON, "SERVICE": service}
        assert image.chain()[-1].field == "dockerBuild"
        assert image.chain()[0].field == "host"


def test_every_argument_of_a_build_is_one_that_the_dockerfile_takes(released: Released) -> None:
    taken = re.findall(r"^ARG (\w+)", (tree.ROOT / "Dockerfile").read_text("utf-8"), re.M)
    execution = released.execution
    assert set(build_arguments(execution.published[0][1][0])) - set(taken) == set()


@pytest.mark.parametrize("function", ["image", "sbom"])
def test_an_unknown_service_is_answered_with_the_choices(engine: Engine, function: str) -> None:
    with pytest.raises(CallFailed, match=r"^\w+: there is no service 'gateway'; the services are: .*, worker-gateway$"):
        engine.call(function, {"service": "gateway"})


def test_a_release_pushes_all_images_and_then_gives_them_the_version(released: Released) -> None:
    registry, execution, images = released.registry, released.execution, released.images
    assert [image["service"] for image in images] == list(SERVICES)
    assert [address for address, _i, _d in execution.published] == [f"{repository(s)}:{SHA}" for s in SERVICES]
    assert registry.given == [f"{repository(service)}:v1.2.3" for service in SERVICES]
    assert [image["digest"] for image in images] == [digest for _a, _i, digest in execution.published]
    assert [image["ref"] for image in images] == registry.given
    assert all(image["platforms"] == ["linux/amd64", "linux/arm64"] for image in images)


def test_the_notes_of_a_release_take_the_images_as_they_were_published(released: Released) -> None:
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-12-01\n\n### Compatibility\n\n- Nothing to do.\n"
    text = notes("v1.2.3", changelog, '[project]\nversion = "1.2.3"\n', json.dumps(released.images))
    for image in released.images:
        assert f"`{image['ref']}@{image['digest']}` | linux/amd64, linux/arm64 |" in text


def test_exactly_what_is_pushed_was_smoked_and_scanned_on_every_platform(released: Released) -> None:
    execution = released.execution
    scanned = [s.parent for c in execution.commands for s in c.unfold() if s.field == "asTarball"]
    smoked = [c.parent for c in execution.commands if c.arguments["args"] == ["--version"]]
    for _address, variants, _digest in execution.published:
        assert [platforms(variant) for variant in variants] == [["linux/amd64"], ["linux/arm64"]]
        assert [variant for variant in variants if variant not in smoked or variant not in scanned] == []


def test_a_release_is_made_of_the_commit_and_says_of_which(released: Released) -> None:
    """And not of the working tree."""
    execution = released.execution
    said = {"VERSION": "1.2.3", "REVISION": COMMIT, "SOURCE_DATE_EPOCH": "1790000000", "CREATED": CREATED}
    for _address, variants, _digest in execution.published:
        for variant in variants:
            assert [step.field for step in variant.chain()][-2:] == ["tree", "dockerBuild"]
            assert build_arguments(variant).items() >= said.items()


def test_the_token_is_never_part_of_a_command_or_a_variable(released: Released) -> None:
    execution = released.execution
    steps = [step for recipe in execution.touched for step in recipe.unfold()]
    plain = [step for step in steps if step.field not in {"setSecret", "secret"}]
    assert [
        s for s in plain if any("plaintext of" in str(v) for v in s.arguments.values() if isinstance(v, str | list))
    ] == []
    mounted = [step for step in steps if step.field == "withMountedSecret"]
    assert {step.arguments["path"] for step in mounted} == {"/run/registry/config.json"}


def test_a_rerun_takes_the_digests_that_stand_and_builds_nothing(engine: Engine) -> None:
    registry = FakeTags({f"{repository(service)}:{SHA}": OLD for service in SERVICES})
    execution = registry.execution()
    file = engine.call("publish", WANTED, execution=execution)
    assert [image["digest"] for image in json.loads(file.parent.arguments["contents"])] == [OLD] * 3
    assert execution.published == []
    assert [c for c in execution.commands for step in c.unfold() if step.field == "dockerBuild"] == []
    assert registry.given == [f"{repository(service)}:v1.2.3" for service in SERVICES]


def test_a_rerun_completes_what_is_missing(engine: Engine) -> None:
    done = {f"{repository('control-plane')}:{tag}": OLD for tag in (SHA, "v1.2.3")}
    registry = FakeTags(done)
    execution = registry.execution()
    engine.call("publish", WANTED, execution=execution)
    assert [address for address, _i, _d in execution.published] == [f"{repository(s)}:{SHA}" for s in SERVICES[1:]]
    assert registry.given == [f"{repository(service)}:v1.2.3" for service in SERVICES[1:]]


def test_a_version_of_another_commit_is_refused_before_anything_is_pushed(engine: Engine) -> None:
    registry = FakeTags({f"{repository('scheduler')}:v1.2.3": OLD})
    execution = registry.execution()
    with pytest.raises(CallFailed, match=r"v1\.2\.3 is published already, and not from commit .*dispatchd-scheduler\."):
        engine.call("publish", WANTED, execution=execution)
    assert execution.published == []
    assert registry.given == []


def test_a_registry_that_refuses_is_no_registry_without_the_image(engine: Engine) -> None:
    execution = FakeTags(broken=REFUSED).execution()
    with pytest.raises(CallFailed, match=r"the registry refuses .* check --username and --token"):
        engine.call("publish", WANTED, execution=execution)
    assert execution.published == []


def test_a_registry_that_refuses_a_push_leaves_no_version_behind(engine: Engine) -> None:
    """In one line, after an image that it took: that one has no version either, and a rerun completes the release."""
    registry = FakeTags()
    execution = registry.execution()
    execution.unpushed = {repository("scheduler"): "denied: permission_denied: write_package"}
    with pytest.raises(
        CallFailed, match=r"^\w+: the registry refuses \S+scheduler:sha-\w+: check --username.*write_package\)$"
    ):
        engine.call("publish", WANTED, execution=execution)
    assert [address for address, _i, _d in execution.published] == [f"{repository('control-plane')}:{SHA}"]
    assert registry.given == []


def test_a_registry_that_refuses_a_version_is_told_and_a_rerun_completes_the_release(engine: Engine) -> None:
    at_commit = {f"{repository(service)}:{SHA}": OLD for service in SERVICES}
    registry = FakeTags(at_commit, untagged={repository("scheduler")})
    with pytest.raises(
        CallFailed, match=r"^\w+: the registry refuses \S+dispatchd-scheduler:v1\.2\.3: check --username.*$"
    ):
        engine.call("publish", WANTED, execution=registry.execution())
    again = FakeTags(registry.tags)
    engine.call("publish", WANTED, execution=again.execution())
    assert registry.given + again.given == [f"{repository(service)}:v1.2.3" for service in SERVICES]


@pytest.mark.parametrize(("held", "says"), [(None, r"can't be read: .*env:GITHUB_TOKEN'"), (" \n", "is empty")])
def test_a_missing_secret_is_told_before_anything_is_asked_or_built(
    engine: Engine, held: str | None, says: str
) -> None:
    execution = FakeTags().execution()
    execution.secrets = {"env:GITHUB_TOKEN": held}
    with pytest.raises(CallFailed, match=f"^\\w+: --token {says}; name one as env:NAME, file:PATH or cmd:COMMAND$"):
        engine.call("publish", WANTED, execution=execution)
    assert execution.commands == []


def listed(engine: Engine, images: object, execution: Execution) -> Recipe:
    """The lists of what these images consist of."""
    file = Recipe("Directory", "withNewFile", {"path": "images.json", "contents": json.dumps(images)})
    given = {"images": Recipe("File", "file", {"path": "images.json"}, file), "username": "robot", "token": TOKEN}
    folder = engine.call("sboms", given, execution=execution)
    assert isinstance(folder, Recipe)
    return folder


def test_what_a_release_consists_of_is_read_from_exactly_what_was_published(engine: Engine, released: Released) -> None:
    """From the digest of each index, for each platform; the registry gets a password that is a secret."""
    execution = Execution()
    folder = listed(engine, released.images, execution)
    digests = {image["service"]: image["digest"] for image in released.images}
    for service in SERVICES:
        for architecture in ("amd64", "arm64"):
            path = f"{service}-linux-{architecture}.cdx.json"
            [file] = [step.arguments["source"] for step in folder.chain() if step.arguments.get("path") == path]
            [command] = [step.arguments["args"] for step in file.chain() if step.field == "withExec"]
            assert command[-1] == f"{repository(service)}@{digests[service]}"
            assert command[command.index("--platform") + 1] == f"linux/{architecture}"
            assert command[command.index("--format") + 1] == "cyclonedx"
            assert [s.arguments["path"] for s in file.chain() if s.field == "withMountedSecret"] == [
                "/run/registry/config.json"
            ]
    assert len([step for step in folder.chain() if step.field == "withFile"]) == 6


def test_a_registry_that_refuses_to_show_an_image_is_told_in_one_line(engine: Engine, released: Released) -> None:
    said = "FATAL\tFatal error\t4 errors occurred:\n* remote error: GET https://ghcr.io/token: DENIED: denied\n"
    execution = Execution(lambda _argv: Outcome(1, stderr=said))
    with pytest.raises(CallFailed, match=r"^\w+: the registry refuses \S+control-plane@sha256:\w+: check .*$"):
        listed(engine, released.images, execution)


def test_images_that_are_not_those_of_a_release_are_refused(engine: Engine) -> None:
    with pytest.raises(CallFailed, match=r"^\w+: --images has to list service, repository, digest and platforms .*$"):
        listed(engine, [{"service": "scheduler"}], Execution())


def test_an_owner_with_capital_letters_is_written_as_a_registry_wants_it(engine: Engine) -> None:
    registry = FakeTags({f"{repository(service)}:{SHA}": OLD for service in SERVICES})
    file = engine.call("publish", WANTED | {"registry": "ghcr.io/Owner"}, execution=registry.execution())
    images = json.loads(file.parent.arguments["contents"])
    assert [image["ref"] for image in images] == [f"{repository(service)}:v1.2.3" for service in SERVICES]


def test_a_registry_that_does_not_answer_is_not_taken_for_an_empty_one(engine: Engine) -> None:
    execution = FakeTags(broken='Error: Get "https://ghcr.io/v2/": dial tcp: connect: connection refused').execution()
    with pytest.raises(CallFailed, match=r"the registry gave no answer for .* connection refused"):
        engine.call("publish", WANTED, execution=execution)
    assert execution.published == []


@pytest.mark.parametrize(("program", "outcome"), [("trivy", "not run"), ("dispatchd_pipelines.scans", "failed")])
def test_nothing_is_pushed_when_an_image_has_a_finding_or_could_not_be_scanned(
    engine: Engine, program: str, outcome: str
) -> None:
    registry = FakeTags()
    execution = registry.execution(lambda argv: Outcome(1, stderr="no") if program in argv else Outcome())
    with pytest.raises(CallFailed, match=rf"(?m)^{outcome} .* scan of scheduler on linux/arm64: "):
        engine.call("publish", WANTED, execution=execution)
    assert execution.published == []
    assert registry.given == []


@pytest.mark.parametrize(("user", "entrypoint"), [("", ["dispatchd"]), ("0", ["dispatchd"]), ("65532", ["sh", "-c"])])
def test_an_image_that_runs_as_root_or_through_a_shell_does_not_pass(
    engine: Engine, user: str, entrypoint: list[str]
) -> None:
    with pytest.raises(CallFailed, match=r"the image of control-plane (runs as|starts)"):
        engine.call("images", execution=Execution(user=user, entrypoint=entrypoint))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("tag", "latest"), ("tag", "sha-1234567"), ("tag", "1.2.3"), ("tag", "v1.2.3-rc.1"), ("registry", "ghcr.io")],
)
def test_what_is_no_release_is_refused_at_once(engine: Engine, argument: str, value: str) -> None:
    """A version is what the release program takes for one."""
    execution = FakeTags().execution()
    with pytest.raises(CallFailed, match=f"^\\w+: --{argument} '{value}' .* such as .*$"):
        engine.call("publish", WANTED | {argument: value}, execution=execution)
    assert execution.commands == []


def test_a_promotion_changes_gitops_and_nothing_else(engine: Engine) -> None:
    images = Recipe("File", "file", {"path": "images.json"}, Recipe("Directory", "directory", {}))
    execution = Execution()
    change = engine.call("promote", {"env": "staging", "images": images}, execution=execution)
    assert change.type == "Changeset"
    assert ["infra", "promote-image", "--env", "staging", "--images", "/images.json"] in execution.argvs()
    *_rest, taken, changes = change.chain()
    assert (taken.field, taken.arguments["path"], changes.field) == ("withDirectory", "gitops", "changes")


def test_an_unknown_environment_is_answered_with_the_choices(engine: Engine) -> None:
    images = Recipe("File", "file", {"path": "images.json"}, Recipe("Directory", "directory", {}))
    with pytest.raises(
        CallFailed, match=r"^\w+: there is no environment 'prod'; the environments are: dev, staging, .*$"
    ):
        engine.call("promote", {"env": "prod", "images": images})


def test_integration_takes_the_servers_that_are_named(engine: Engine) -> None:
    execution = Execution()
    engine.call("integration", {"postgres": "15", "redis": "6.2"}, execution=execution)
    used = {s.arguments["address"].split("@")[0] for r in execution.touched for s in r.unfold() if s.field == "from"}
    assert {"postgres:15-alpine", "redis:6.2-alpine"} <= used
    assert ["python", "-m", "dispatchd.demo", "--given-servers"] in execution.argvs()


def test_an_unknown_version_of_a_server_is_answered_with_the_choices(engine: Engine) -> None:
    with pytest.raises(CallFailed, match=r"^\w+: there is no PostgreSQL '12' here; the versions are: 15, 18$"):
        engine.call("integration", {"postgres": "12"})


def test_a_drill_gives_its_report(engine: Engine) -> None:
    execution = Execution()
    report = engine.call("drill", {"name": "kill_gateway"}, execution=execution)
    assert (report.field, report.arguments["path"]) == ("file", "/drill.json")
    assert ["python", "-m", "perf.drills", "--name", "kill_gateway", "--json", "/drill.json"] in execution.argvs()


def test_a_drill_that_is_none_fails_with_what_its_command_says(engine: Engine) -> None:
    said = "Usage: …\n\nError: Invalid value for '--name': 'nap' is not one of 'empty_redis', 'kill_gateway'.\n"
    with pytest.raises(
        CallFailed, match=r"^\w+: drill nap: Error: .*'nap' is not one of 'empty_redis', 'kill_gateway'\.$"
    ):
        engine.call("drill", {"name": "nap"}, execution=Execution(lambda argv: outcome_of(argv, said)))


def outcome_of(argv: list[str], said: str) -> Outcome:
    return Outcome(2, stderr=said) if "perf.drills" in argv else Outcome()


def test_a_load_test_puts_its_load_on_the_three_images(engine: Engine) -> None:
    execution = Execution()
    summary = engine.call("load_test", {"profile": "average"}, execution=execution)
    assert (summary.field, summary.arguments["path"]) == ("file", "/load.json")
    [command] = [command for command in execution.commands if "perf.load" in command.arguments["args"]]
    bindings = [step.arguments for step in command.chain() if step.field == "withServiceBinding"]
    bound = {given["alias"]: given["service"] for given in bindings}
    assert set(bound) == {"postgres", "redis", *SERVICES}
    for service in SERVICES:
        assert build_arguments(bound[service]) == {"BASE": pins.PYTHON, "SERVICE": service}
        assert bound[service].chain()[-1].arguments == {"args": [service], "useEntrypoint": True}


def test_an_unknown_profile_is_answered_with_the_choices_before_anything_is_built(engine: Engine) -> None:
    execution = Execution()
    with pytest.raises(
        CallFailed, match=r"^\w+: there is no profile 'huge'; the profiles are: smoke, average, stress$"
    ):
        engine.call("load_test", {"profile": "huge"}, execution=execution)
    assert execution.commands == []


def test_a_load_test_that_misses_a_threshold_fails(engine: Engine) -> None:
    def missed(argv: list[str]) -> Outcome:
        return Outcome(1, stderr="  missed: failed rate==0") if "perf.load" in argv else Outcome()

    with pytest.raises(CallFailed, match=r"load test smoke: exit code 1\n  missed: failed rate==0"):
        engine.call("load_test", execution=Execution(missed))
