"""docs/delivery.md names commands that exist, and its walks through both switches work as they stand there."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from dispatchd_infra.cli import main
from dispatchd_infra.manifests import access, cluster
from dispatchd_infra.manifests.labels import POSTGRES
from dispatchd_infra.manifests.pods import ARCHIVE_TIMEOUT_S
from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.promotion.region_status import OLDEST
from dispatchd_infra.promotion.steps import Phase, Step, phase_of
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common, read_environment
from promotion.switching import A, B, Production, alone, settled, token
from repositories import INFRA

ROOT = INFRA.parent
PAGE = (ROOT / "docs" / "delivery.md").read_text("utf-8")


def section(title: str) -> str:
    """The text below a heading."""
    [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program in the console blocks of a text."""
    lines = re.findall(r"^ *\$ (.*)$", text, re.MULTILINE)
    calls = [call.strip() for line in lines for call in line.split("&&")]
    return [shlex.split(call)[1:] for call in calls if call.startswith(f"{program} ")]


@pytest.mark.parametrize("arguments", commands(PAGE, "infra"), ids=" ".join)
def test_every_command_is_taken_as_it_stands_there(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in arguments:
        if word.endswith(".json"):
            (tmp_path / word).touch()
    name, command, rest = main.resolve_command(click.Context(main), arguments)
    assert name is not None
    assert command is not None
    command.make_context(name, rest)


def test_the_verbs_of_make_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", PAGE))
    assert {"render", "render-check", "kind-up", "gitops-update-dev", "infra-setup"} <= named <= verbs


def test_the_walk_through_a_planned_switch_works(tmp_path: Path) -> None:
    production = settled(tmp_path)
    steps = _walk(production, section("Switch regions when both are well"))
    assert steps == [Step.DEMOTE, Step.PROMOTE, Step.SWITCH, Step.FINISH]
    assert phase_of(production.state) is Phase.SETTLED
    assert (production.state.primary, production.state.epoch) == (B, 2)


def test_the_walk_through_an_unplanned_switch_works(tmp_path: Path) -> None:
    production = settled(tmp_path)
    steps = _walk(production, section("Switch regions when the primary is lost"))
    assert steps == [Step.PROMOTE, Step.SWITCH, Step.FINISH, Step.REBUILD]
    assert phase_of(production.state) is Phase.SETTLED
    assert (production.state.primary, production.state.epoch) == (B, 2)


def test_the_first_passive_region_is_made_as_the_page_says(tmp_path: Path) -> None:
    production = alone(tmp_path)
    assert _walk(production, section("From an empty cluster to a running environment")) == [Step.BOOTSTRAP_PASSIVE]
    assert phase_of(production.state) is Phase.SETTLED


def test_a_lost_passive_region_is_rebuilt_as_the_page_says(tmp_path: Path) -> None:
    production = settled(tmp_path)
    assert _walk(production, section("Rebuild the passive region when its database is lost")) == [Step.REBUILD]
    assert production.state.of(B).archive == 2


def test_every_step_is_on_the_page() -> None:
    assert set(re.findall(r"--step ([a-z-]+)", PAGE)) == set(Step) - {Step.BEGIN}


def test_environments_and_branches_are_those_of_the_settings() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| `([a-z]+)` \|$", PAGE, re.MULTILINE))
    repository = read_common(INFRA).repository
    assert table == {stack: repository.production if stack.is_production else repository.main for stack in ENVIRONMENTS}


def test_what_kubectl_is_told_exists() -> None:
    for arguments in commands(PAGE, "kubectl"):
        words = " ".join(arguments)
        if "clusters.postgresql.cnpg.io" in words:
            assert f"clusters.postgresql.cnpg.io {POSTGRES}" in words
        if "scale deployment" in words:
            assert f"scale deployment {' '.join(SERVING)} " in words
    contexts = set(re.findall(r"--context ([a-z-]+)", PAGE)) - {"kind-dispatchd"}
    assert contexts <= set(ENVIRONMENTS)


CALLS_OF_KUBECTL = [
    *(each for each in commands(PAGE, "kubectl") if each[:2] != ["config", "use-context"]),
    *(shlex.split(each) for each in re.findall(r"`kubectl ([^`]+)`", PAGE)),
]
"""Those in blocks, and those within sentences."""


@pytest.mark.parametrize("arguments", CALLS_OF_KUBECTL, ids=" ".join)
def test_operators_have_the_rights_that_kubectl_needs(arguments: list[str]) -> None:
    option, context, flag, namespace, *command = arguments
    assert (option, flag) == ("--context", "-n"), "operators have rights in one namespace at a time"

    assert _needed(command) - _rights(Stack(context), namespace) == set()


def test_the_times_on_the_page_are_those_of_the_code() -> None:
    words = {5: "five", 10: "ten"}
    assert f"after {words[ARCHIVE_TIMEOUT_S // 60]}\nminutes in any case" in PAGE
    assert f"good for {words[int(OLDEST.total_seconds()) // 60]} minutes" in PAGE


Right = tuple[str, str]
"""A resource with its subresource, and a verb."""


def _needed(command: list[str]) -> set[Right]:
    """What a call of kubectl asks of the API server."""
    verb, kind, *_ = command
    match verb:
        case "exec":
            deployment, _, _ = kind.partition("/")
            assert deployment == "deploy"
            return {("deployments", "get"), ("pods", "list"), ("pods", "get"), ("pods/exec", "create")}
        case "scale":
            return {(f"{kind}s", "get"), (f"{kind}s/scale", "patch")}
        case "get":
            return {(_plural(kind), "get"), (_plural(kind), "list")}
        case "patch":
            return {(_plural(kind), "get"), (_plural(kind), "patch")}
        case "delete":
            # It waits until the object is gone.
            return {(_plural(kind), each) for each in ("get", "list", "watch", "delete")}
    raise AssertionError(f"nobody has said which rights `kubectl {verb}` needs")


def _plural(kind: str) -> str:
    return kind.partition(".")[0]


def _rights(stack: Stack, namespace: str) -> set[Right]:
    """What people on call may do in a namespace."""
    objects = cluster.objects(read_common(INFRA), read_environment(INFRA, stack))
    return {
        (resource, verb)
        for role in objects
        if role["kind"] == "Role"
        and (role["metadata"]["name"], role["metadata"]["namespace"]) == (access.OPERATORS, namespace)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _walk(production: Production, text: str) -> list[Step]:
    """Types the commands of a section, with the status files of that moment, and merges each one. Returns the steps."""
    taken = []
    for arguments in commands(text, "infra"):
        if "--step" not in arguments:
            continue
        step = Step(arguments[arguments.index("--step") + 1])
        files = _status_files(production).get(step, dict)()
        production.clone.succeed(*(token() if word == "TOKEN" else files.get(word, word) for word in arguments))
        production.merge()
        taken.append(step)
    return taken


def _status_files(production: Production) -> dict[Step, Callable[[], dict[str, str]]]:
    """What the regions say before each step, by the names that the page gives to the files."""

    def drained() -> dict[str, str]:
        _, of_a, _, of_b = production.drained()
        return {f"{A}.json": of_a, f"{B}.json": of_b}

    return {
        Step.DEMOTE: drained,
        Step.SWITCH: lambda: {f"{B}.json": production.status(B, database="primary")},
        Step.FINISH: lambda: {f"{B}.json": production.status(B, database="primary", primary_region=B, epoch=2)},
    }
