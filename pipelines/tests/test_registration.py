"""What people see of the module: functions, arguments, defaults and checks, as they are registered with an engine."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

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


def test_every_call_on_the_page_is_one_that_there_is(engine: Engine) -> None:
    page = (tree.ROOT / "docs" / "pipelines.md").read_text("utf-8").replace("\\\n", " ")
    functions = {name.replace("_", "-"): function for name, function in declared(engine.module).items()}
    own = {f"--{name.replace('_', '-')}" for name in parameters(constructor_of(engine.module))}
    calls = re.findall(r"\$ dagger call (.*)", page)
    assert len(calls) >= 6
    for call in calls:
        name, *words = call.split()
        options = {word for word in words if word.startswith("--") and word != "--path"}
        known = {f"--{argument.replace('_', '-')}" for argument in parameters(functions[name])}
        assert options <= known | own, call
