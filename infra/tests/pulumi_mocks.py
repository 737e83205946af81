"""Runs a Pulumi program without Pulumi, and tells what it would have registered."""

import json
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pulumi
import yaml
from pulumi.runtime import config, mocks

INFRA = Path(__file__).parents[1]


@dataclass
class Registered(mocks.Mocks):
    """Takes the place of the engine: says yes to everything, and remembers it."""

    resources: list[mocks.MockResourceArgs] = field(default_factory=list)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.resources.append(args)
        return f"id of {args.name}", args.inputs

    def call(self, args: mocks.MockCallArgs) -> NoReturn:
        raise AssertionError(f"the program called {args.token}")

    def of_type(self, typ: str) -> dict[str, mocks.MockResourceArgs]:
        """The resources of a type, by name."""
        return {args.name: args for args in self.resources if args.typ == typ}


def stack_config(program: str, stack: str) -> dict[str, Any]:
    """What stands in the stack's file under `config`."""
    value = yaml.safe_load((INFRA / program / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
    return dict(value.get("config") or {})


def run(program: str, stack: str, settings: Mapping[str, Any], secret: tuple[str, ...] = ()) -> Registered:
    """Runs `__main__.py` of a program, as Pulumi would for a stack with these settings."""
    registered = Registered()
    mocks.set_mocks(registered, project=f"dispatchd-{program}", stack=stack)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    config.set_all_config(texts, list(secret))

    def main() -> None:
        runpy.run_path(str(INFRA / program / "__main__.py"), run_name="__main__")

    pulumi.runtime.test(main)()  # type: ignore[no-untyped-call]
    return registered
