"""What people see of the module: functions, arguments, defaults and checks, as they are registered with an engine."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

import golden
import tree
from session.engine import Engine, constructor_of, declared, kind, parameters
from session.execution import Execution
from session.recipe import Recipe, decode
from session.server import FunctionCall, SessionServer


def described(step: Recipe) -> str:
    return str(step.arguments.get("description", ""))


def test_the_functions_are_those_of_the_committed_list(engine: Engine) -> None:
    """After a wanted change: `UPDATE_GOLDEN=1 pytest tests/test_registration.py` in pipelines/."""
    found = golden.described(engine.module) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.FILE.write_text(found, "utf-8")
    assert found == golden.FILE.read_text("utf-8")


def test_everything_that_is_called_says_what_it_does(engine: Engine) -> None:
    for name, function in declared(engine.module).items():
        steps = function.chain()
        assert [s for s in steps if s.field == "withDescription"], name
        assert [argument for argument, step in parameters(function).items() if not described(step)] == [], name
    constructor = constructor_of(engine.module)
    assert [argument for argument, step in parameters(constructor).items() if not described(step)] == []


def test_a_check_needs_no_argument(engine: Engine) -> None:
    """`dagger check` gives none, and a required one breaks it for all checks."""
    checks = {n: f for n, f in declared(engine.module).items() if any(s.field == "withCheck" for s in f.chain())}
    assert {"lint", "test", "proto", "render"} <= set(checks)
    for name, function in checks.items():
        for argument, step in parameters(function).items():
            optional = kind(step.arguments["typeDef"]).startswith("optional ")
            assert optional or step.arguments.get("defaultValue") is not None, f"{name} needs {argument}"


def test_whatever_is_secret_is_a_secret(engine: Engine) -> None:
    for name, function in declared(engine.module).items():
        for argument, step in parameters(function).items():
            if re.search("token|password|secret|key", argument, re.I):
                assert kind(step.arguments["typeDef"]).removeprefix("optional ") == "object Secret", (name, argument)


def test_the_entry_point_registers_the_module_as_the_engine_starts_it(
    session_server: SessionServer, tmp_path: Path
) -> None:
    """In a process of its own, with the file and the arguments that Dagger's runtime for Python uses."""
    runtime = tmp_path / "runtime"
    runtime.write_text("import sys; from dagger.mod.cli import app; sys.exit(app(None, '--register' in sys.argv[1:]))")
    call = FunctionCall("", "", "", {}, Execution())
    written = tmp_path / "module.json"
    with session_server.serving(call):
        ended = subprocess.run(
            [sys.executable, runtime, "--register"],
            env=os.environ | {"DAGGER_MODULE_FILE": str(written)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert call.refused == []
    assert "lint" in declared(decode(written.read_text().strip('"')))


def test_the_engine_and_the_sdk_are_of_one_version() -> None:
    module = json.loads((tree.ROOT / "dagger.json").read_text("utf-8"))
    assert module["engineVersion"] == f"v{version('dagger-io')}"
    assert module["source"] == "pipelines"


def test_the_page_tells_of_every_function(engine: Engine) -> None:
    page = (tree.ROOT / "docs" / "pipelines.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z-]+)(?: [^`]*)?`", page))
    assert {name.replace("_", "-") for name in declared(engine.module)} - named == set()


def unknown_options(engine: Engine, call: str) -> set[str]:
    """The options in `FUNCTION --option … [export …]` that neither the function nor the module itself has."""
    name, *words = call.split()
    own = call.split(" export ")[0].split() if words else []
    functions = {known.replace("_", "-"): function for known, function in declared(engine.module).items()}
    places = [constructor_of(engine.module), functions[name]]
    options = {f"--{option.replace('_', '-')}" for place in places for option in parameters(place)}
    return {word.split("=")[0] for word in own if word.startswith("--")} - options


def test_every_call_on_the_page_is_one_that_there_is(engine: Engine) -> None:
    page = (tree.ROOT / "docs" / "pipelines.md").read_text("utf-8").replace("\\\n", " ")
    calls = re.findall(r"\$ dagger call (.*)", page)
    assert len(calls) >= 6
    assert {call: unknown_options(engine, call) for call in calls if unknown_options(engine, call)} == {}


def test_every_call_of_a_workflow_is_one_that_there_is(engine: Engine) -> None:
    """With all arguments that the function needs."""
    steps = [
        step["with"]
        for file in tree.files([".github/workflows/*.yml"])
        for job in yaml.safe_load((tree.ROOT / file).read_text("utf-8"))["jobs"].values()
        for step in job.get("steps", [])
        if step.get("uses", "").startswith("dagger/dagger-for-github@")
    ]
    assert {each["args"].split()[0] for each in steps} >= {"ci", "publish", "sboms", "promote", "evidence"}
    for each in steps:
        assert each["verb"] == "call"
        assert f"v{each['version']}" == json.loads((tree.ROOT / "dagger.json").read_text("utf-8"))["engineVersion"]
        assert unknown_options(engine, each["args"]) == set()
        function = declared(engine.module)[each["args"].split()[0].replace("-", "_")]
        for argument, step in parameters(function).items():
            if step.arguments.get("defaultValue") is None:
                assert f"--{argument}=" in each["args"], (each["args"], argument)
