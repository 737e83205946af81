"""A registry that a release is published to, as far as crane and the engine tell of it."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from session.engine import Engine
from session.execution import COMMIT, Execution, Outcome
from session.recipe import Recipe

REGISTRY = "ghcr.io/owner"
SHA = f"sha-{COMMIT[:7]}"
TOKEN = Recipe("Secret", "secret", {"uri": "env:GITHUB_TOKEN"})
WANTED = {"registry": REGISTRY, "username": "robot", "tag": "v1.2.3", "token": TOKEN}
SERVICES = ("control-plane", "scheduler", "worker-gateway")
OLD = "sha256:" + "0" * 64
CREATED = "2026-09-21T14:13:20+00:00"
NOT_FOUND = "Error: GET https://ghcr.io/v2/owner/x/manifests/y: MANIFEST_UNKNOWN: manifest unknown"
REFUSED = "Error: GET https://ghcr.io/v2/owner/x/manifests/y: DENIED: requested access to the resource is denied"


class FakeTags:
    """What the tags of a registry stand for, as far as crane tells of it, and what it was asked to change.

    `broken` is what it answers to everything, and `untagged` has the repositories to which it gives no tag.
    """

    def __init__(
        self, tags: Mapping[str, str] | None = None, *, broken: str = "", untagged: Collection[str] = ()
    ) -> None:
        self.tags = dict(tags or {})
        self.given: list[str] = []
        self.broken = broken
        self.untagged = untagged
        self._execution: Execution | None = None

    def execution(self, outcome: Callable[[list[str]], Outcome] = lambda _argv: Outcome()) -> Execution:
        def answer(argv: list[str]) -> Outcome:
            return self._crane(argv[1:]) if argv[0] == "crane" else outcome(argv)

        self._execution = Execution(lambda argv: Outcome(stdout="1790000000\n") if argv[0] == "git" else answer(argv))
        return self._execution

    def _crane(self, argv: list[str]) -> Outcome:
        if self.broken:
            return Outcome(1, stderr=f"HEAD request failed, falling back on GET\n{self.broken}\n")
        if argv[0] == "tag":
            repository, digest = argv[1].split("@")
            if repository in self.untagged:
                return Outcome(1, stderr=f"{REFUSED}\n")
            self.tags[f"{repository}:{argv[2]}"] = digest
            self.given.append(f"{repository}:{argv[2]}")
            return Outcome()
        assert self._execution is not None
        pushed = {address: digest for address, _image, digest in self._execution.published}
        found = (self.tags | pushed).get(argv[1])
        return Outcome(stdout=f"{found}\n") if found else Outcome(1, stderr=NOT_FOUND)


def repository(service: str) -> str:
    return f"{REGISTRY}/dispatchd-{service}"


@dataclass(frozen=True, slots=True)
class Released:
    """A release to an empty registry: the registry, what the engine did, and images.json."""

    registry: FakeTags
    execution: Execution
    images: list[dict[str, Any]]


def release(engine: Engine) -> Released:
    registry = FakeTags()
    execution = registry.execution()
    file = engine.call("publish", WANTED, execution=execution)
    return Released(registry, execution, json.loads(file.parent.arguments["contents"]))
