"""The table of steps, and who runs which of them."""

import re
import shlex
import subprocess

import pytest

import tree
import verbs
from dispatchd_pipelines.steps import EXECUTABLES, STEPS, Needs, Step, UnknownStep, select, step

BY_NAME = pytest.mark.parametrize("each", STEPS, ids=lambda each: each.name)
CI = (tree.ROOT / ".ci" / "run").read_text("utf-8")
IN_ANOTHER = {"singles": "singles-all"}
"""Steps that a larger one contains, which is run instead where there is time."""


def steps_of_ci() -> list[str]:
    """What .ci/run runs, with what it passes to make."""
    names: list[str] = []
    for command in re.findall(r"^run ((?:\\\n|.)*)$", CI, re.M):
        verb, *settings = shlex.split(command.replace("\\\n", " "))
        if verb in verbs.over_steps():
            names += verbs.steps_of(verb, *settings)
    return names


def test_every_step_has_a_name_of_its_own() -> None:
    names = [each.name for each in STEPS]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9-]*", name)] == []


@BY_NAME
def test_a_command_begins_with_an_executable_of_its_environment(each: Step) -> None:
    assert each.argv[0] in EXECUTABLES[each.image]


@BY_NAME
def test_a_command_does_the_work_itself(each: Step) -> None:
    """Neither make nor another step, and no shell that could call them."""
    words = " ".join(each.argv)
    assert not re.search(r"\bmake\b|\bsh\b|\bbash\b|pipelines\.native", words)


def test_no_command_is_there_twice() -> None:
    commands = [(each.argv, each.workdir, each.image) for each in STEPS]
    assert [each for each in commands if commands.count(each) > 1] == []


@BY_NAME
def test_every_input_is_there(each: Step) -> None:
    assert [pattern for pattern in each.inputs if not tree.files([pattern])] == []


@BY_NAME
def test_a_command_runs_in_a_folder_of_its_inputs(each: Step) -> None:
    assert each.workdir == "." or tree.files([f"{each.workdir}/**"])


@BY_NAME
def test_what_a_command_leaves_is_never_committed(each: Step) -> None:
    assert [output for output in each.outputs if tree.files([output])] == []


def test_every_need_is_that_of_a_step() -> None:
    assert {each.needs for each in STEPS} == set(Needs)


def test_an_unknown_name_is_answered_with_the_choices() -> None:
    with pytest.raises(UnknownStep, match=r"no step is called speling, nope; the steps are: types, .*\blint, "):
        select(["lint", "speling", "nope"])


def test_steps_come_in_the_order_in_which_they_are_named() -> None:
    assert [each.name for each in select(["test", "lint"])] == ["test", "lint"]
    assert step("lint").argv == ("ruff", "check", ".")


def test_every_verb_over_steps_names_steps_that_exist() -> None:
    assert {"test", "lint", "fmt-check", "build", "proto-check", "proto-breaking", "k8s-validate"} <= set(
        verbs.over_steps()
    )
    for verb in verbs.over_steps():
        select(verbs.steps_of(verb, "ENV=dev"))


@pytest.mark.parametrize("environment", ["dev", "staging", "prod-region-a", "prod-region-b"])
def test_what_is_rendered_is_chosen_by_its_environment(environment: str) -> None:
    for verb in ("k8s-render", "argocd-render"):
        assert verbs.steps_of(verb, f"ENV={environment}") == [f"{verb}-{environment}"]


@pytest.mark.parametrize("settings", [("ENV=moon",), ()])
@pytest.mark.parametrize("verb", ["k8s-render", "argocd-render"])
def test_an_unknown_environment_or_none_is_answered_with_the_choices(verb: str, settings: tuple[str, ...]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        verbs.steps_of(verb, *settings)
    wanted = settings[0] if settings else "ENV="
    assert (
        f"there is no environment {wanted}: name one of dev staging prod-region-a prod-region-b" in refused.value.stderr
    )


def test_ci_runs_every_step_and_none_twice() -> None:
    names = steps_of_ci()
    assert len(names) == len(set(names))
    left_out = {each.name for each in STEPS} - set(names)
    assert left_out == set(IN_ANOTHER)
    assert set(IN_ANOTHER.values()) <= set(names)


def test_make_test_needs_nothing_but_the_environments() -> None:
    names = verbs.steps_of("test")
    assert [each.name for each in select(names) if each.needs is not Needs.NOTHING] == []
    assert {"lint", "types", "layers", "proto-breaking", "test", "infra-test", "singles", "hostile"} <= set(names)


def test_make_help_names_every_verb_over_steps() -> None:
    helped = subprocess.run(["make", "help"], cwd=tree.ROOT, capture_output=True, text=True, check=True).stdout
    assert [verb for verb in verbs.over_steps() if f"make {verb} " not in helped] == []


def test_the_page_about_pipelines_lists_every_step_that_needs_something() -> None:
    page = (tree.ROOT / "docs" / "pipelines.md").read_text("utf-8")
    section = page.partition("## What is not run everywhere")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", section, re.M)
    assert listed == [(each.name, str(each.needs)) for each in STEPS if each.needs is not Needs.NOTHING]
