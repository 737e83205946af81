"""The checks of the module: what they run, and that nothing which fails can pass."""

import re
from collections.abc import Callable, Iterator

import anyio
import pytest

from dispatchd_pipelines import fan_out, parts
from dispatchd_pipelines.parts import Part
from dispatchd_pipelines.steps import FOLDERS, STEPS, Step
from session.engine import CallFailed, Engine
from session.execution import Execution, Outcome
from session.recipe import Recipe

CHECKS = {"lint": Part.LINT, "proto": Part.PROTO, "render": Part.RENDER, "test": Part.TEST}


def failing(argv: tuple[str, ...]) -> Callable[[list[str]], Outcome]:
    return lambda given: Outcome(3, "three things", "are wrong") if tuple(given) == argv else Outcome()


def run_by(name: str) -> list[Step]:
    return [step for step in parts.steps_of(CHECKS[name]) if not parts.why_not_run(step)]


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_runs_its_steps_as_they_are_in_the_table(engine: Engine, name: str) -> None:
    execution = Execution()
    report = engine.call(name, execution=execution)
    for step in run_by(name):
        command = next(c for c in execution.commands if tuple(c.arguments["args"]) == step.argv and is_in(c, step))
        variables = {s.arguments["name"]: s.arguments["value"] for s in command.chain() if s.field == "withEnvVariable"}
        assert step.environment.items() <= variables.items()
        filters = [s.arguments["include"] for s in command.unfold() if s.field == "filter"]
        assert list(step.inputs) in filters
        assert f"s  {step.name}" in report


def test_each_environment_is_where_the_native_ones_are_and_the_module_s_tests_have_all_of_them(engine: Engine) -> None:
    execution = Execution()
    engine.call("test", execution=execution)
    engine.call("lint", execution=execution)
    for step in (*run_by("test"), *run_by("lint")):
        command = next(c for c in execution.commands if tuple(c.arguments["args"]) == step.argv and is_in(c, step))
        environ = {s.arguments["name"]: s.arguments["value"] for s in command.chain() if s.field == "withEnvVariable"}
        assert environ["PATH"] == f"/src/{FOLDERS[step.image]}/bin:${{PATH}}"
        assert environ["VIRTUAL_ENV"] == environ["UV_PROJECT_ENVIRONMENT"] == f"/src/{FOLDERS[step.image]}"
        if step.name == "pipelines-test":
            copied = {s.arguments["path"] for s in command.chain() if s.field == "withDirectory"}
            assert copied >= {f"/src/{folder}" for role, folder in FOLDERS.items() if role is not step.image}


def is_in(command: Recipe, step: Step) -> bool:
    folders = [s.arguments["path"] for s in command.chain() if s.field == "withWorkdir"]
    return bool(folders) and folders[-1] == f"/src/{step.workdir}".removesuffix("/.")


def each_step() -> Iterator[tuple[str, Step]]:
    for name in CHECKS:
        yield name, run_by(name)[-1]


@pytest.mark.parametrize(("name", "step"), list(each_step()), ids=lambda value: getattr(value, "name", value))
def test_a_check_fails_when_a_command_does_and_tells_what_it_printed(engine: Engine, name: str, step: Step) -> None:
    with pytest.raises(CallFailed) as failure:
        engine.call(name, execution=Execution(failing(step.argv)))
    message = str(failure.value)
    assert "three things\nare wrong" in message
    assert f"s  {step.name}: exit code 3" in message
    assert "failed" in message.splitlines()[-1]


def test_what_the_module_cannot_run_is_told_and_does_not_pass(engine: Engine) -> None:
    report = engine.call("test")
    assert re.search(r"^not run .* cluster-tier: needs the tools of `make infra-tools`$", report, re.M)
    assert "cluster-tier" not in [step.name for step in run_by("test")]


def test_every_step_belongs_to_a_part_that_a_function_runs() -> None:
    parts_of_steps = {parts.part_of(step) for step in STEPS}
    assert parts_of_steps <= set(Part)
    both = parts.steps_of(*Part) + parts.steps_of(*Part, all_faults=True)
    assert {step.name for step in both} == {step.name for step in STEPS}


async def test_no_more_run_at_once_than_the_bound_says_and_those_alone_run_alone() -> None:
    running: set[str] = set()
    seen: list[set[str]] = []

    def job(name: str, *, alone: bool = False) -> fan_out.Job:
        async def run() -> None:
            running.add(name)
            seen.append(set(running))
            await anyio.lowlevel.checkpoint()
            running.remove(name)

        return fan_out.Job(name, run, alone=alone)

    jobs = [job("x", alone=True), *(job(str(number)) for number in range(7)), job("y", alone=True)]
    report = await fan_out.run(jobs, 3)
    assert max(len(names) for names in seen) == 3
    assert [names for names in seen if names & {"x", "y"}] == [{"x"}, {"y"}]
    assert report.endswith("steps: 9 passed")


async def test_none_at_once_is_refused_and_not_waited_for() -> None:
    with pytest.raises(ValueError, match=r"^0 jobs at once: at least 1 is needed$"):
        await fan_out.run([], 0)


async def test_a_failure_stops_nothing_else() -> None:
    async def good() -> None:
        done.append("good")

    async def bad() -> None:
        raise fan_out.CheckFailed("no such profile")

    done: list[str] = []
    with pytest.raises(fan_out.ChecksFailed, match="1 passed, 1 failed"):
        await fan_out.run([fan_out.Job("bad", bad), fan_out.Job("good", good)], 1)
    assert done == ["good"]
