"""What happens when something is asked of an object: which commands would run, and what the answer is.

The double runs nothing. It knows of every command that an engine would have run to give the answer, and the test says
which of them fail and what they print.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import GraphQLError

import tree
from session.recipe import Recipe

COMMIT = "3f0c9904d6682d2b5c33091be87ac16822f4aa01"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ends."""

    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""


@dataclass(slots=True)
class Execution:
    """One call of a function: the answers it gets, and what it made the engine do."""

    outcome: Callable[[list[str]], Outcome] = lambda _argv: Outcome()
    files: Mapping[str, str] = field(default_factory=dict)
    """What is in files, by how their paths end"""
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    """What secrets hold, by their URI; None for one that is not there"""
    unpushed: Mapping[str, str] = field(default_factory=dict)
    """What a registry answers to the push of an image, by how its address begins; all others it takes"""
    commit: str = COMMIT
    user: str = "65532:65532"
    """Of every image that is built"""
    entrypoint: list[str] = field(default_factory=lambda: ["dispatchd"])
    ran: dict[str, tuple[Recipe, Outcome]] = field(default_factory=dict)
    """The `withExec` of every command that ran, by its ID: an engine runs the same command in the same place once"""
    published: list[tuple[str, list[Recipe], str]] = field(default_factory=list)
    """The address of every image that was pushed, its variants, and its digest"""
    touched: list[Recipe] = field(default_factory=list)
    """Every object that was asked for something"""

    @property
    def commands(self) -> list[Recipe]:
        """The `withExec` of every command that ran, in order."""
        return [command for command, _outcome in self.ran.values()]

    def argvs(self) -> list[list[str]]:
        return [command.arguments["args"] for command in self.commands]

    def evaluate(self, recipe: Recipe) -> Outcome:
        """Run what an object needs, and give how its own last command ended."""
        self.touched.append(recipe)
        for step in recipe.unfold():
            if step.field == "withExec":
                self._run(step)
        own = [step for step in recipe.chain() if step.field == "withExec"]
        return self.ran[own[-1].id][1] if own else Outcome()

    def _run(self, command: Recipe) -> None:
        id_, argv = command.id, command.arguments["args"]
        if id_ not in self.ran:
            self.ran[id_] = (command, self.outcome(argv))
        ended = self.ran[id_][1]
        expected = command.arguments.get("expect", "SUCCESS")
        if expected == "ANY" or (ended.exit_code == 0) == (expected == "SUCCESS"):
            return
        raise GraphQLError(
            f"process {' '.join(argv)!r} did not complete successfully: exit code: {ended.exit_code}",
            extensions={
                "_type": "EXEC_ERROR",
                "cmd": argv,
                "exitCode": ended.exit_code,
                "stdout": ended.stdout,
                "stderr": ended.stderr,
            },
        )

    def answer(self, recipe: Recipe, leaf: str, arguments: Mapping[str, Any]) -> Any:
        """The value of a leaf. One that the double knows nothing of is an error, so that nothing passes by chance."""
        match recipe.type, leaf:
            case _, "sync" | "start" | "stop":
                self.evaluate(recipe)
                return recipe.id
            case "Container", "exitCode":
                return self.evaluate(recipe).exit_code
            case "Container", "stdout":
                return self.evaluate(recipe).stdout
            case "Container", "stderr":
                return self.evaluate(recipe).stderr
            case "Container", "user":
                self.evaluate(recipe)
                return self.user
            case "Container", "entrypoint":
                self.evaluate(recipe)
                return self.entrypoint
            case "Container", "publish":
                return self._publish(recipe, arguments)
            case "File", "contents":
                self.evaluate(recipe)
                return self._contents(recipe)
            case "Directory", "entries":
                self.evaluate(recipe)
                return []
            case "Secret", "plaintext":
                return self._plaintext(str(recipe.arguments.get("uri") or recipe.arguments.get("name")))
            case "GitRef", "commit":
                return self.commit
        raise GraphQLError(f"the session double has no answer for {recipe.type}.{leaf}")

    def _publish(self, recipe: Recipe, arguments: Mapping[str, Any]) -> str:
        variants = arguments.get("platformVariants") or [recipe]
        for container in variants:
            self.evaluate(container)
        address = arguments["address"]
        for start, answer in self.unpushed.items():
            if address.startswith(start):
                raise GraphQLError(f"failed to export: failed to push {address}: {answer}")
        digest = "sha256:" + hashlib.sha256(f"{address} {[each.id for each in variants]}".encode()).hexdigest()
        self.published.append((address, variants, digest))
        return f"{address}@{digest}"

    def _plaintext(self, name: str) -> str:
        text = self.secrets.get(name, f"plaintext of {name}")
        if text is None:
            raise GraphQLError(f"failed to get secret plaintext: secret env var not found: {name!r}")
        return text

    def _contents(self, recipe: Recipe) -> str:
        path = next((step.arguments["path"] for step in reversed(recipe.chain()) if "path" in step.arguments), "")
        for end, contents in self.files.items():
            if path.endswith(end):
                return contents
        for step in reversed(recipe.chain()):
            if step.field == "withNewFile" and path.endswith(step.arguments["path"]):
                return str(step.arguments["contents"])
        fields = [step.field for step in recipe.chain()]
        if fields == ["host", "directory", "file"] and recipe.chain()[1].arguments["path"] == "/":
            return (tree.ROOT / path).read_text("utf-8")
        raise GraphQLError(f"the session double has no file {path}")
